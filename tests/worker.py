"""A process of tests/training/test_several_processes.py: several trainings, or one with an event in the second process.

torchrun -m tests.worker <overrides> [-- <overrides of another run> ...]
torchrun -m tests.worker fail <overrides>
torchrun -m tests.worker stop <overrides>
"""

import os
import signal
import sys
from contextlib import suppress

from spt import distributed as processes
from spt import train
from spt.training.loop import TaskTrainer


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


def stop(arguments: list[str]) -> None:
    """The second process is told to give way, and then the run goes on."""
    training_step = TaskTrainer.training_step

    def told(self, *args, **kwargs):
        if os.environ["RANK"] == "1" and self.state.global_step == 15:
            signal.raise_signal(signal.SIGTERM)
        return training_step(self, *args, **kwargs)

    TaskTrainer.training_step = told
    with suppress(SystemExit):
        several(arguments)
    TaskTrainer.training_step = training_step
    several(arguments)


if __name__ == "__main__":
    events = {"fail": fail, "stop": stop}
    if sys.argv[1] in events:
        events[sys.argv[1]](sys.argv[2:])
    else:
        several(sys.argv[1:])
