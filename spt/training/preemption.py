"""Signals by which a scheduler preempts a job: the run writes a checkpoint, and the command exits with its own code.

SIGTERM, SIGUSR1 and SIGHUP (the terminal was closed) preempt, and so does submitit's signal, upon which submitit also
requeues the job. Ctrl-C writes a checkpoint, too; a second Ctrl-C exits at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: the same command succeeds later
INTERRUPTED = 130  # the shells' code for Ctrl-C: 128 and the signal's number
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
SUBMITIT_SIGNAL = signal.SIGUSR2


class Preempted(SystemExit):
    """The exit of a command that was preempted, or interrupted by Ctrl-C."""

    def __init__(self, number: int):
        super().__init__(INTERRUPTED if number == signal.SIGINT else EXIT_CODE)
        self.number = number

    def __str__(self) -> str:
        what = "interrupted" if self.number == signal.SIGINT else f"preempted by {signal.Signals(self.number).name}"
        return f"{what}: the same command {'without force=true ' * ('force=true' in sys.argv)}resumes"


_signal = 0
_loops = 0


@contextmanager
def handling_signals() -> Iterator[None]:
    """End in `Preempted` upon a signal: at once, or inside `deferred` when the code there asks for it.

    Only the main thread can handle signals; in another one this does nothing.
    """
    global _signal
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, SUBMITIT_SIGNAL, signal.SIGINT)}
    handled = [number for number in SIGNALS if before[number] == signal.SIG_DFL]
    handled += [SUBMITIT_SIGNAL] * callable(before[SUBMITIT_SIGNAL])
    handled += [signal.SIGINT] * (before[signal.SIGINT] == signal.default_int_handler)
    for number in handled:
        signal.signal(number, _handle)
    try:
        yield
    except Preempted:
        requeue = before[SUBMITIT_SIGNAL]
        if _signal == SUBMITIT_SIGNAL and callable(requeue):
            requeue(SUBMITIT_SIGNAL, None)
        raise
    finally:
        for number in handled:
            signal.signal(number, before[number])
        if handled:
            _signal = 0


@contextmanager
def deferred() -> Iterator[None]:
    """Let the training loop decide when to exit: it looks for a signal after every step."""
    global _loops
    _loops += 1
    try:
        yield
    finally:
        _loops -= 1


def requested() -> int:
    """The signal that was received; 0 where none was."""
    return _signal


def exit_if_requested() -> None:
    """Raise Preempted if a signal was received."""
    if _signal:
        raise Preempted(_signal)


def ignore_signals_in_worker(worker: int) -> None:
    """Leave signals that a scheduler sends to all processes of a job to the run: for DataLoader's `worker_init_fn`.

    The run itself ends a worker by SIGTERM, which only the run's process may send.
    """
    run = parent_process()
    assert run is not None
    for number in (signal.SIGUSR1, signal.SIGHUP, SUBMITIT_SIGNAL, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS, where no scheduler sends signals to the workers
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_exit_upon_sigterm_from, args=(run.pid,), daemon=True).start()


def _exit_upon_sigterm_from(run: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != run:
        pass
    os._exit(0)


def _handle(number: int, frame: Any) -> None:
    global _signal
    if number == _signal == signal.SIGINT:
        raise KeyboardInterrupt
    _signal = number
    if not _loops:
        exit_if_requested()
