"""The lock of a backbone that adapters share between threads."""

import threading

from transformers import PreTrainedModel


class Lock:
    """A lock that its thread may take again. A copy of what it belongs to gets a new one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple:
        return Lock, ()


def lock_of(encoder: PreTrainedModel) -> Lock:
    """The lock of a backbone: held while an adapter is put on it, and while a batch is computed with it."""
    return encoder.__dict__.setdefault("adapter_lock", Lock())
