"""What each process of tests/test_distributed.py runs: several trainings, or one that fails in the second process only.

torchrun -m tests.worker <overrides> [-- <overrides of another run> ...]
torchrun -m tests.worker fail <overrides>
"""

import os
import sys

from spt import processes, train
from spt.training import TaskTrainer


def several(arguments: list[str]) -> None:
    for run in " ".join(arguments).split(" -- "):
        sys.argv = ["spt.train", *run.split()]
        train.main()


def fail(arguments: list[str]) -> None:
    if os.environ["RANK"] == "1":
        processes.PATIENCE = 0.0
    compute_loss = TaskTrainer.compute_loss

    def failing(self, *args, **kwargs):
        if os.environ["RANK"] == "1" and self.state.global_step == 2:
            raise MemoryError("the second process has no memory left")
        return compute_loss(self, *args, **kwargs)

    TaskTrainer.compute_loss = failing
    several(arguments)


if __name__ == "__main__":
    if sys.argv[1] == "fail":
        fail(sys.argv[2:])
    else:
        several(sys.argv[1:])
