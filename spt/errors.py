"""The one exception that bad input ends in."""

import difflib
import errno
from collections.abc import Iterable
from typing import Any, TypeGuard


class SptError(ValueError):
    """Bad input. The message names the thing and the remedy; commands print it alone and exit with code 1."""


GOES_ON = "and the same command goes on after the last finished epoch"


def cannot_write(path: object, error: BaseException, remedy: str = GOES_ON) -> SptError:
    """What to say of a file that could not be written: by default one of a run's."""
    why = getattr(error, "strerror", None) or error
    return SptError(f"cannot write {path}: {why}. Put that right (where the disk is full, make room), {remedy}")


def hub_cache_unwritable(error: BaseException | None) -> SptError | None:
    """What to say where something from the hub has nowhere to be kept; None where that is not what `error` came of."""
    from huggingface_hub.constants import HF_HOME

    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            where = error.filename or HF_HOME
            return cannot_write(f"the hub's cache, {where}", error, "or set HF_HOME to a folder that can be written")
        error = error.__cause__ or error.__context__
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that ends an error message: the known names closest to `name`, and all of them where they are few."""
    names = sorted(str(item) for item in known)
    longer = [known for known in names if name and known.startswith(str(name))]
    close = list(dict.fromkeys(longer + difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)))[:3]
    hints = [f"did you mean {' or '.join(repr(item) for item in close)}?"] if close else []
    if len(names) <= 20 or not close:
        hints.append(f"known: {', '.join(names)}")
    return " ".join(hints)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a setting is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a setting is a whole number of at least 1."""
    return is_whole(value) and value >= 1


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a setting is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
