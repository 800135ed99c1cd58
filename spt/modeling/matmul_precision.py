"""How precisely torch multiplies float32 matrices: exactly, or in TF32."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import Any

import torch

_lock = RLock()  # held while a precision is set, which is the process's


@contextmanager
def matmul_precision(wanted: str | None = None) -> Iterator[None]:
    """Compute in `wanted`, a name of `torch.set_float32_matmul_precision`, and restore what the program has set.

    Args:
        wanted: "highest" (float32), "high" (TF32); None: what is set, which the block may change.
    """
    with nullcontext() if wanted is None else _lock:
        by_backend: list[tuple[Any, str]] = []
        try:
            before = torch.get_float32_matmul_precision()
        except RuntimeError:  # set by backend, through `fp32_precision`, to what has no name for all of them
            backends: Any = torch.backends
            before = "highest"
            by_backend = [(each, each.fp32_precision) for each in (backends.cuda.matmul, backends.mkldnn.matmul)]
        try:
            if wanted is not None:
                torch.set_float32_matmul_precision(wanted)
            yield
        finally:
            torch.set_float32_matmul_precision(before)
            for backend, value in by_backend:
                backend.fp32_precision = value
