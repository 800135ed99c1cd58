"""A page of tables, as Markdown, as LaTeX (booktabs), and lines as CSV."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{"±": r"$\pm$", "−": "$-$", "Δ": r"$\Delta$", "≤": r"$\leq$", "≥": r"$\geq$", "√": r"$\surd$", "·": r"$\cdot$"},
    **{"†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\parallel$"},
    **{"²": "$^2$", "×": r"$\times$", "–": "--"},
}


@dataclass(frozen=True)
class Column:
    """A column's heading: what it belongs to, and what it is."""

    label: str
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its title, columns and rows of text, and what a reader must know, a line each."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass
class Section:
    """A heading, text under it, and tables."""

    heading: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def markdown(title: str, sections: Iterable[Section]) -> str:
    """The page as GitHub's Markdown."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.heading}", *map(wrapped, section.text)]
        for table in section.tables:
            parts += [f"### {table.title}", markdown_table(table)]
            if table.notes:
                parts.append(bullets(map(_escaped, table.notes)))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """The table alone."""
    heading = [f"{column.group} {column.label}".strip() for column in table.columns]
    rows = [heading, ["---"] * len(heading), *table.rows]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in rows)


def wrapped(text: str, first: str = "") -> str:
    """A paragraph in lines of at most 120 characters, the first with a bullet, the others below its text."""
    indent = " " * len(first)
    return textwrap.fill(
        text, 120, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def bullets(items: Iterable[str]) -> str:
    """A list."""
    return "\n".join(wrapped(item, "- ") for item in items)


def listed(names: Iterable[str]) -> str:
    """Names in a line, each once."""
    return ", ".join(dict.fromkeys(names))


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")


def latex(title: str, sections: Iterable[Section]) -> str:
    r"""The tables for `\input`: each a float that is no wider than the line; booktabs and graphicx are needed."""
    parts = [f"% {title}. Needs \\usepackage{{booktabs,graphicx}}."]
    for section in sections:
        parts += [_float(f"{title}, {section.heading}: {table.title}", table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def _float(caption: str, table: Table) -> str:
    groups = [(name, len(list(columns))) for name, columns in groupby(table.columns, key=lambda column: column.group)]
    body = []
    if any(name for name, _ in groups):
        body.append(_row([rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name, width in groups]))
        start = 1
        for name, width in groups:
            if name:
                body.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            start += width
    body.append(_row([escape(column.label) for column in table.columns]))
    notes = r"\par ".join(escape(note) for note in table.notes)
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            *body,
            r"\midrule",
            *(_row([escape(text) for text in row]) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            *(
                [rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}"]
                if notes
                else []
            ),
            r"\end{table}",
        ]
    )


def _row(parts: list[str]) -> str:
    return " & ".join(parts) + r" \\"


def escape(text: str) -> str:
    """Text as LaTeX sets it as it is."""
    return "".join(LATEX.get(char, char) for char in text)


def csv_text(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """Lines of values by column name; None is an empty field."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
