"""The fields of a row, by the columns that may hold them, and templates: text with names of fields in {braces}."""

import string
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from spt.errors import SptError, nearest
from spt.tasks.text_lines import Row


@dataclass(kw_only=True)
class RowFields:
    """Access to a row's fields by name, though columns may have other names."""

    columns: dict[str, list[str]] = field(default_factory=dict)  # for a field, the columns that may hold it: first wins

    def column(self, name: str) -> str:
        """The first of the columns that may hold a field."""
        return self._columns(name)[0]

    def has_field(self, row: Row, name: str) -> bool:
        """Whether a row has one of a field's columns."""
        return any(column in row for column in self._columns(name))

    def value(self, row: Row, name: str) -> Any:
        """The value of a field."""
        return row[self._column_in(row, name)]

    def text(self, row: Row, name: str) -> str:
        """The value of a field that must be text."""
        column = self._column_in(row, name)
        if not isinstance(row[column], str):
            raise SptError(f"field {column!r} holds no text but {row[column]!r}")
        return row[column]

    def fill(self, template: str, row: Row) -> str:
        """`template` with the row's fields in place of their names in {braces}."""
        return "".join(text + ("" if name is None else self.text(row, name)) for text, name in template_parts(template))

    def _columns(self, name: str) -> list[str]:
        return self.columns.get(name) or [name]

    def _column_in(self, row: Row, name: str) -> str:
        for column in self._columns(name):
            if column in row:
                return column
        raise SptError(self._missing(row, name))

    def _missing(self, row: Row, name: str) -> str:
        return missing_field(row, *self._columns(name))


def missing_field(row: Row, *columns: str) -> str:
    """The message about a row that has none of `columns`."""
    message = f"no field {' or '.join(map(repr, columns))}: {nearest(columns[0], row)}"
    if any(column.strip() in columns for column in row):
        return f"{message}; leave out the blanks around the names of columns, such as those after commas"
    if len(row) == 1 and " " in "".join(row):
        return f"{message}; if blanks separate the columns, write commas (.csv) or tabs (.tsv) instead"
    return message


@cache
def template_parts(template: str) -> list[tuple[str, str | None]]:
    """The parts of a template: each a text, and the field that follows it (None at the end)."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SptError(f"template {template!r}: {error}") from error
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise SptError(f"template {template!r}: braces hold the name of a field and nothing else")
    return [(text, name) for text, name, _, _ in parts]


def template_fields(*templates: str) -> list[str]:
    """The fields that templates name, each once."""
    names = (name for template in templates for _, name in template_parts(template))
    return list(dict.fromkeys(name for name in names if name is not None))
