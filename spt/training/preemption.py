"""Signals by which a scheduler asks for the machine back: a run keeps where it is, and its command ends with a code of
its own. They are SIGTERM, SIGUSR1, and the signal upon which submitit queues its job again, which it then does. Ctrl-C
is one more of them, and a second Ctrl-C ends the command at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command later will do

INTERRUPTED = 130  # as shells have it: 128 and the signal's number

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

OF_SUBMITIT = signal.SIGUSR2


class Preempted(SystemExit):
    """The end of a command that was asked for the machine."""

    def __init__(self, number: int):
        super().__init__(INTERRUPTED if number == signal.SIGINT else EXIT_CODE)
        self.number = number

    def __str__(self) -> str:
        why = f"{signal.Signals(self.number).name}: the machine is wanted back"
        return f"{'interrupted' if self.number == signal.SIGINT else why}; the same command goes on"


_asked = 0

_trainings = 0


@contextmanager
def listening() -> Iterator[None]:
    """Have the signals that come meanwhile end in `Preempted`: at once, or where a run trains, once it says so.

    Only the main thread can listen; in another one this does nothing.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, OF_SUBMITIT, signal.SIGINT)}
    ours = [number for number in SIGNALS if before[number] == signal.SIG_DFL]
    ours += [OF_SUBMITIT] * callable(before[OF_SUBMITIT])
    ours += [signal.SIGINT] * (before[signal.SIGINT] == signal.default_int_handler)
    for number in ours:
        signal.signal(number, _on_signal)
    try:
        yield
    except Preempted:
        queue_again = before[OF_SUBMITIT]
        if _asked == OF_SUBMITIT and callable(queue_again):
            queue_again(OF_SUBMITIT, None)
        raise
    finally:
        for number in ours:
            signal.signal(number, before[number])
        if ours:
            _asked = 0


@contextmanager
def deferred() -> Iterator[None]:
    """Leave it to what runs meanwhile to look whether it is `asked` to end."""
    global _trainings
    _trainings += 1
    try:
        yield
    finally:
        _trainings -= 1


def asked() -> int:
    """The signal that came; 0 where none did."""
    return _asked


def give_way() -> None:
    """End where a signal came.

    Raises:
        Preempted: then.
    """
    if _asked:
        raise Preempted(_asked)


def not_to_workers(worker: int) -> None:
    """What a DataLoader's worker begins with: signals that come to all processes of a job are the run's, not its.

    The run itself ends it by one, though, and waits for that.
    """
    run = parent_process()
    assert run is not None
    for number in (signal.SIGUSR1, OF_SUBMITIT, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_when_told_by, args=(run.pid,), daemon=True).start()


def _end_when_told_by(run: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != run:
        pass
    os._exit(0)


def _on_signal(number: int, frame: Any) -> None:
    global _asked
    if number == _asked == signal.SIGINT:
        raise KeyboardInterrupt
    _asked = number
    if not _trainings:
        give_way()
