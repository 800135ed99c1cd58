r"""Tables as LaTeX with booktabs, for `\input`: they fit into a column or a page of a paper and are not scaled."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from spt.report.compact_tables import PrintTable, Row, Score
from spt.report.table_model import Column, groups

ESCAPES = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{"±": r"$\pm$", "−": "$-$", "Δ": r"$\Delta$", "≤": r"$\leq$", "≥": r"$\geq$", "√": r"$\surd$", "·": r"$\cdot$"},
    **{"†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\parallel$"},
    **{"α": r"$\alpha$", "λ": r"$\lambda$", "²": "$^2$", "×": r"$\times$", "–": "--"},
}

COLUMN, PAGE = 215, 450  # points: a little less than the width of a column and of a page in the common styles

SIZES = {"small": 4.3, "footnotesize": 3.95, "scriptsize": 3.6}  # points that a character takes

SEPARATION = 3  # points on both sides of each column


def latex(title: str, prints: Sequence[PrintTable]) -> str:
    """The file of a table: its scores, as the `print_tables` show them."""
    return "\n\n".join([f"% {escape(title)}. Needs \\usepackage{{booktabs}}.", *map(print_latex, prints)]) + "\n"


def print_latex(table: PrintTable) -> str:
    """A float with the scores of a table for print, with caption and label; several if it is wider than a page."""
    scores = [Column(of, task) if of else Column(task) for task, of in table.columns]
    heads = [[*table.places, *names] for names in zip(*table.columns, strict=True)]
    lengths = _lengths([*heads, *map(_plain, _all_rows(table))])
    if _size(lengths) is None and len(scores) > 1:
        return "\n\n".join(map(print_latex, _parts(table, lengths)))
    width, lines = len(lengths), list[str]()
    for model, rows in table.blocks:
        if len(table.blocks) > 1:
            lines += [r"\midrule"] * bool(lines) + [rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(model)}}}}} \\"]
        lines += [_line([*map(escape, place), *map(_score, own)]) for place, own in rows]
    body = [*_heads([*map(Column, table.places), *scores]), r"\midrule", *lines]
    alignment = "l" * len(table.places) + "c" * len(scores)
    return _float(table.caption, f"tab:{table.name}", alignment, lengths, body)


def _parts(table: PrintTable, lengths: Sequence[int]) -> Iterator[PrintTable]:
    """As few tables as possible, each with as many of the columns with scores as fit on a page."""
    places, scores = lengths[: len(table.places)], lengths[len(table.places) :]
    most = next((n for n in range(len(scores) - 1, 1, -1) if _size([*places, *sorted(scores)[-n:]])), 1)
    for number, start in enumerate(range(0, len(scores), most), start=1):
        own = slice(start, start + most)
        blocks = [(model, [(place, row[own]) for place, row in rows]) for model, rows in table.blocks]
        names = {"name": f"{table.name}-{number}", "caption": f"{table.caption} Part {number}."}
        yield replace(table, **names, columns=table.columns[own], blocks=blocks)


def _all_rows(table: PrintTable) -> list[Row]:
    return [row for _, rows in table.blocks for row in rows]


def _plain(row: Row) -> list[str]:
    """The texts of a row, as long as they are in print: digits are wide, in bold even more, but small beside a mean."""
    place, scores = row
    small = [round(0.15 * len(score.mean) + 0.9 * len(_beside(score) + score.marks)) for score in scores]
    return [*place, *(score.mean + "x" * more for score, more in zip(scores, small, strict=True))]


def _beside(score: Score) -> str:
    return " ".join([f"±{score.std}"] * bool(score.std) + [f"({score.n})"] * bool(score.n))


def _score(score: Score) -> str:
    text = escape(score.mean) or "--"
    if score.is_best:
        text = rf"\textbf{{{text}}}"
    elif score.is_tied:
        text = rf"\underline{{{text}}}"
    text += rf"{{\tiny\,{escape(beside)}}}" if (beside := _beside(score)) else ""
    return text + (rf"\textsuperscript{{{escape(score.marks)}}}" if score.marks else "")


def _lengths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _width(lengths: Sequence[int], size: str) -> float:
    return sum(lengths) * SIZES[size] + 2 * SEPARATION * len(lengths)


def _size(lengths: Sequence[int]) -> str | None:
    """The largest size of type in which a table is not wider than the page."""
    return next((size for size in SIZES if _width(lengths, size) <= PAGE), None)


def _float(caption: str, label: str, alignment: str, lengths: Sequence[int], body: Sequence[str]) -> str:
    """A float over one column, or over both in a size of type in which it is not wider than the page."""
    size = _size(lengths) or "scriptsize"
    name = "table" if _width(lengths, size) <= COLUMN else "table*"
    return "\n".join(
        [
            rf"\begin{{{name}}}[tbp]",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{{label}}}",
            rf"\{size}",
            rf"\setlength{{\tabcolsep}}{{{SEPARATION}pt}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\end{{{name}}}",
        ]
    )


def _heads(columns: Sequence[Column]) -> list[str]:
    """The labels of the columns, and above them the names of their groups, with a rule under each."""
    above = groups(columns)
    labels = _line(escape(column.label) for column in columns)
    if not any(name for name, _ in above):
        return [labels]
    lines, start = [_line(rf"\multicolumn{{{width}}}{{c}}{{{escape(name)}}}" for name, width in above)], 1
    for name, width in above:
        if width > 1 and name:
            lines.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [*lines, labels]


def _line(parts: Iterable[str]) -> str:
    return " & ".join(parts) + r" \\"


def escape(text: str) -> str:
    """Text with LaTeX's special characters and the report's symbols escaped."""
    return "".join(ESCAPES.get(char, char) for char in text)
