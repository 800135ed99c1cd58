"""Settings and their values as headings and cells of a table, and in the order of one."""

from collections import Counter
from collections.abc import Iterable


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted name, or the name itself where others have the same last part."""
    distinct = dict.fromkeys(names)
    counts = Counter(name.rpartition(".")[2] for name in distinct)
    return {name: last if counts[last := name.rpartition(".")[2]] == 1 else name for name in distinct}


def numbers_first(text: str) -> tuple[float, str]:
    """A key that sorts the texts of numbers by their value, before other texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
