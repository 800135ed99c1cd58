"""Class names as data writes them: which class a label names, the classes of a file, and doubtful names."""

import logging
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from spt.errors import SptError, nearest

log = logging.getLogger(__name__)

MISSING = ("nan", "none", "null", "<na>", "n/a")  # how exports write a missing value, in lower case

SHOWN = 20  # names that a message has room for


class ClassName(str):
    """The name of a class in a data set, with the class's index there."""

    index_in_data: int

    def __new__(cls, name: str, index_in_data: int) -> "ClassName":
        named = super().__new__(cls, name)
        named.index_in_data = index_in_data
        return named

    def __getnewargs__(self) -> tuple:
        return str(self), self.index_in_data


def label_name(label: Any) -> str:
    """A label as text; true and false in lower case, as in JSON."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def is_missing(label: Any) -> bool:
    """Whether a field has no label: null, NaN, or a blank text."""
    return label is None or (isinstance(label, float) and math.isnan(label)) or label_name(label).strip() == ""


def number_of(name: str) -> float | None:
    """The number that a name is, or None."""
    return float(name) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", name, re.ASCII) else None


def _key(name: str) -> str | float:
    """What names of one class have in common: True and true are one word, 1 and 1.0 one number."""
    number = number_of(name)
    return number if number is not None else name.lower() if name.lower() in ("true", "false") else name


def class_index(label: Any, labels: list[str], inferred: bool) -> int:
    """The index of the class that a label names or, if no class is a number, whose index it is.

    A `ClassName` names a class, or if all classes are numbers stands for its index.

    Args:
        label: as the data has it.
        labels: the names of the classes.
        inferred: whether these names were found in the training file, in no order that an index could follow.

    Raises:
        SptError: if it is not one of the classes.
    """
    if label_name(label) in labels and not isinstance(label, list | dict):
        return labels.index(label_name(label))
    name = one_name(label).strip()
    keys = list(map(_key, labels))
    if _key(name) in keys:
        return keys.index(_key(name))
    number = number_of(name)
    has_numbers = any(isinstance(key, float) for key in keys)
    if not inferred and not has_numbers and number is not None and number in range(len(labels)):
        return int(number)
    if isinstance(label, ClassName) and str(label.index_in_data) in labels:
        return labels.index(str(label.index_in_data))
    reason = f"label {label!r} is not a label of this task: {nearest(name, labels)}"
    if inferred and has_numbers != (number is not None):
        reason += (
            "; names and numbers are mixed, and the order of classes that were found in the training file means "
            "nothing: write names alone, or name the classes in the order of the numbers in task.labels=[...]"
        )
    elif inferred:
        reason += "; the classes are those of the training file: name all of them in task.labels=[...]"
    raise SptError(reason)


def one_name(label: Any) -> str:
    """A label as text. SptError if it is a list, also one that is written as text."""
    if isinstance(label, bytes):
        raise SptError(f"label {label!r} is bytes: write it as text")
    name = label_name(label)
    if isinstance(label, list | dict) or re.fullmatch(r"\[.*\]|\{.*\}", name.strip(), re.DOTALL):
        raise SptError(
            f"label {label!r} is a list: a label is one text or number, and multi-label is not supported; a tag for "
            "each word needs task.shape=token, and spans of characters are not read"
        )
    return name


def found_classes(labels: Iterable[tuple[str, str]], source: str) -> list[str]:
    """The classes of a training file, numbers in numeric order, or names; `labels` are places of rows and labels."""
    first: dict[str | float, tuple[str, str]] = {}
    for where, label in labels:
        name = label.strip()
        first.setdefault(_key(name) if number_of(name) is None else name, (name, where))
    numbers = {name: where for name, where in first.values() if number_of(name) is not None}
    names = {name: where for name, where in first.values() if name not in numbers}
    if numbers and names:
        mixed = " and ".join(f"{name!r} in {where}" for name, where in (*[*names.items()][:1], *[*numbers.items()][:1]))
        raise SptError(
            f"{source}: names and numbers are mixed, {mixed}: write one or the other, or name all classes in "
            f"task.labels=[{','.join([*numbers, *names][:SHOWN])}]"
        )
    ordered = sorted(numbers, key=lambda name: (float(name), name)) or sorted(names)
    for one, other in pairwise(ordered):
        if numbers and float(one) == float(other):
            raise SptError(
                f"{source}: {one!r} and {other!r} are one number: write it in one way, or name them in "
                "task.labels=[...] if they are two classes"
            )
    return ordered


def warn_of_names(rows: Counter[str], first: dict[str, str], inferred: bool) -> None:
    """Log blanks around names and, of names that were `inferred` in the training file, those that may be slips.

    `rows` has for each name, as the data writes it, the number of rows, and `first` the place of the first row.
    """
    alike: dict[str, Counter[str]] = defaultdict(Counter)
    for written, count in rows.items():
        name, place = written.strip(), f"{count} rows, the first in {first[written]}"
        alike[unicodedata.normalize("NFKC", name).casefold()][name] += count
        if name != written:
            log.warning("label %r (%s) is read without the blanks around it, as %r", written, place, name)
        if inferred and name.lower() in MISSING:
            log.warning("label %r (%s) is a class: if it means no label, leave these rows out", written, place)
    for folded, counts in alike.items():
        if inferred and len(counts) > 1 and folded not in ("true", "false"):
            each = ", ".join(f"{name!r} ({count} rows)" for name, count in counts.items())
            log.warning("labels that differ in case or form of characters alone are classes of their own: %s", each)
