"""The exception for bad input, and the parts of messages and checks that many modules need."""

import difflib
from collections.abc import Iterable
from typing import Any, TypeGuard


class SptError(ValueError):
    """Bad input. The message says what is wrong and what to do; commands print it alone and exit with code 1."""


class UnusableRow(SptError):
    """A row that cannot become an example though its file is valid: a split leaves it out, with a warning."""


RESUMES = "and the same command resumes after the last finished epoch"


def cannot_write(path: object, error: BaseException, remedy: str = RESUMES) -> SptError:
    """The error for a file that could not be written; the default `remedy` is for the files of a run."""
    reason = getattr(error, "strerror", None) or error
    return SptError(f"cannot write {path}: {reason}. Fix this (if the disk is full, make room), {remedy}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest known names, and all of them if they are few."""
    names = sorted(map(str, known))
    longer = [candidate for candidate in names if name and candidate.startswith(str(name))]
    close = list(dict.fromkeys(longer + difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)))[:3]
    hints = [f"did you mean {' or '.join(map(repr, close))}?"] if close else []
    if len(names) <= 20 or not close:
        hints.append(f"known: {', '.join(names)}")
    return " ".join(hints)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a setting is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a setting is a whole number of at least 1."""
    return is_whole(value) and value >= 1


def check_count(name: str, value: Any) -> None:
    """Raise an SptError unless the setting `name` is a whole number of at least 1."""
    if not is_count(value):
        raise SptError(f"{name} must be a whole number of at least 1, not {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Raise an SptError unless the setting `name` is true or false."""
    if not isinstance(value, bool):
        raise SptError(f"{name} must be true or false, not {value!r}")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a setting is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
