"""Pages of tables as LaTeX with booktabs."""

from collections.abc import Iterable
from itertools import groupby

from spt.report.table_model import Section, Table

ESCAPES = {
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


def latex(title: str, sections: Iterable[Section]) -> str:
    r"""The tables for `\input`, each a float that is at most as wide as the line; needs booktabs and graphicx."""
    parts = [f"% {title}. Needs \\usepackage{{booktabs,graphicx}}."]
    for section in sections:
        parts += [_float(f"{title}, {section.heading}: {table.title}", table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def _float(caption: str, table: Table) -> str:
    notes = r"\par ".join(map(escape, table.notes))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            *_group_headings(table),
            _row(escape(column.label) for column in table.columns),
            r"\midrule",
            *(_row(map(escape, row)) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            *([rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}"] * bool(notes)),
            r"\end{table}",
        ]
    )


def _group_headings(table: Table) -> list[str]:
    """The row above the labels that names the groups of columns, with a rule under each."""
    groups = [(name, len(list(columns))) for name, columns in groupby(table.columns, key=lambda column: column.group)]
    if not any(name for name, _ in groups):
        return []
    lines, start = [_row(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name, width in groups)], 1
    for name, width in groups:
        if name:
            lines.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return lines


def _row(parts: Iterable[str]) -> str:
    return " & ".join(parts) + r" \\"


def escape(text: str) -> str:
    """Text with LaTeX's special characters and the report's symbols escaped."""
    return "".join(ESCAPES.get(char, char) for char in text)
