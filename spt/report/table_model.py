"""A page of tables, before it is written as Markdown or LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby


@dataclass(frozen=True)
class Column:
    """A column's label, and the label of the group of columns that it belongs to."""

    label: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its title, its columns, its rows of text, and notes for the reader."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass
class Section:
    """A heading with text and tables; `is_collapsed` on a page that can fold it, where nothing of it was run."""

    heading: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    is_collapsed: bool = False


def groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The groups of columns that are beside each other, each with its number of columns."""
    return [(name, len(list(own))) for name, own in groupby(columns, key=lambda column: column.group)]


def columns(*labels: str, group: str = "") -> list[Column]:
    """Columns of one group."""
    return [Column(label, group) for label in labels]
