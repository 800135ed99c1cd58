r"""Tables as LaTeX with booktabs, for `\input`: they fit into a column or a page of a paper and are not scaled."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from spt.report.compact_tables import PrintTable, Row, Score
from spt.report.display_names import Names
from spt.report.number_format import NONE, NOT_APPLICABLE
from spt.report.runs_frame import SIGNS
from spt.report.table_model import Column, Section, Table, groups

ESCAPES = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{"±": r"$\pm$", "−": "$-$", "Δ": r"$\Delta$", "≤": r"$\leq$", "≥": r"$\geq$", "√": r"$\surd$", "·": r"$\cdot$"},
    **{"†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\parallel$"},
    **{"α": r"$\alpha$", "λ": r"$\lambda$", "²": "$^2$", "×": r"$\times$", "–": "--"},
}

COLUMN, PAGE = 215, 450  # points: a little less than the width of a column and of a page in the common styles

SIZES = {"small": 4.3, "footnotesize": 3.95, "scriptsize": 3.6}  # points that a character takes

SMALLER = 0.8  # of the usual width: what is beside a mean

SEPARATION = 3  # points on both sides of each column

RARELY_SHOWN = ("model", "task", "of", "row")  # columns that the caption names if all rows have the same

LEFT_OUT = ("McNemar p", "on")  # columns that need notes, or more room than they are worth

NOTHING = {NONE, NOT_APPLICABLE, "not run", "published only"}


def latex(
    name: str, title: str, prints: Sequence[PrintTable], sections: Iterable[Section], names: Names, marks: bool
) -> str:
    """A file for a table: its scores, and the further tables of its page. What they mean is in comments.

    Args:
        name, title: of the table.
        prints: its `print_tables`.
        sections: of its page, those with scores are left out.
        names: of tasks, models, rows and settings.
        marks: whether to show the marks of `SIGNS`.
    """
    parts = [f"% {escape(title)}. Needs \\usepackage{{booktabs}}.", *map(print_latex, prints)]
    for section in (section for section in sections if not section.has_scores):
        parts += [_further(name, title, table, names, marks) for table in section.tables]
    return "\n\n".join(parts) + "\n"


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


def _further(name: str, title: str, table: Table, names: Names, marks: bool) -> str:
    """A table of a page as a float; columns that say the same in each row are in the caption."""
    unmarked = str.maketrans("", "", "" if marks else "".join(SIGNS.values()))
    kinds = {"model": ("model",), "task": ("task",)}
    rows = [
        [names.in_text(text.translate(unmarked), *kinds.get(column.label, ("row", "setting"))) for column, text in
         zip(table.columns, row, strict=True)]
        for row in table.rows
    ]  # fmt: skip
    same = {
        place: rows[0][place]
        for place, column in enumerate(table.columns)
        if column.label in RARELY_SHOWN and len({row[place] for row in rows}) == 1
    }
    kept = [p for p, column in enumerate(table.columns) if p not in same and column.label not in LEFT_OUT]
    heads = [Column(names.in_text(table.columns[p].label, "setting"), table.columns[p].group) for p in kept]
    caption = f"{title}: {table.title}" + (f" ({', '.join(same.values())})" if same else "")
    texts = [["--" if row[place] in NOTHING else row[place] for place in kept] for row in rows]
    plain = [[re.sub("± .*", _smaller, text) for text in row] for row in texts]
    lengths = _lengths([[head.label for head in heads], *plain])
    if _size(lengths) is None:
        return f"% {escape(caption)}: wider than a page, see {name}.md"
    label = f"tab:{name}-{re.sub(r'[^a-z]+', '-', table.title.lower())}"
    body = [*_heads(heads), r"\midrule", *(_line(map(_with_small_std, row)) for row in texts)]
    notes = [f"% {escape(note)}" for note in table.notes]  # LaTeX, for who wants to show them
    return "\n".join([*notes, _float(f"{caption}.", label, "l" * len(kept), lengths, body)])


def _smaller(match: re.Match[str]) -> str:
    return "x" * round(SMALLER * len(match[0]))


def _with_small_std(text: str) -> str:
    return re.sub(r" (\$\\pm\$) ([\d.,]+)", r"{\\tiny\\,\1\2}", escape(text))


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
