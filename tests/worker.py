"""A process of tests/training/test_several_processes.py: several trainings, or one with an event in the second process.

torchrun -m tests.worker <overrides> [-- <overrides of another run> ...]
torchrun -m tests.worker fail <overrides>
torchrun -m tests.worker stop <overrides>
"""

import os
import signal
import sys
from contextlib import suppress

from spt import distributed
from spt.train import main
from spt.training.loop import TrainingLoop


def several(arguments: list[str]) -> None:
    for run in " ".join(arguments).split(" -- "):
        sys.argv = ["spt.train", *run.split()]
        main()


def fail(arguments: list[str]) -> None:
    if os.environ["RANK"] == "1":
        distributed.PATIENCE = 0.0
    loss = TrainingLoop._loss

    def failing(self, *args):
        if os.environ["RANK"] == "1" and self.step == 2:
            raise MemoryError("the second process has no memory left")
        return loss(self, *args)

    TrainingLoop._loss = failing
    several(arguments)


def stop(arguments: list[str]) -> None:
    """The second process is preempted, and then the run resumes."""
    loss = TrainingLoop._loss

    def preempted(self, *args):
        if os.environ["RANK"] == "1" and self.step == 15:
            signal.raise_signal(signal.SIGTERM)
        return loss(self, *args)

    TrainingLoop._loss = preempted
    with suppress(SystemExit):
        several(arguments)
    TrainingLoop._loss = loss
    several(arguments)


if __name__ == "__main__":
    events = {"fail": fail, "stop": stop}
    if sys.argv[1] in events:
        events[sys.argv[1]](sys.argv[2:])
    else:
        several(sys.argv[1:])
