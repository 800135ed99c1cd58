"""What a paper needs: a table on standard output, or figures as PDF: `python -m spt.report table=ner format=latex`."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, ListConfig
from pandas import DataFrame

from spt.console import console, write_data
from spt.errors import SptError, check_flag, nearest
from spt.figure_style import COLUMN, PAGE, figure_files
from spt.files import write_atomically, written
from spt.grid.cells import cells
from spt.grid.group_runs import group_runs
from spt.grid.local_data import DataFingerprint
from spt.grid.match_records import RECORDS, Records
from spt.report.compact_tables import Choice, PrintTable, Score, print_tables
from spt.report.figure_layout import Drawing
from spt.report.figures import drawings, prefix_drawings
from spt.report.latex import escape, print_latex
from spt.report.markdown import markdown_table
from spt.report.number_format import Names
from spt.report.prefix_frame import prefix_frame
from spt.report.runs_frame import runs_frame
from spt.report.seed_means import cells_frame
from spt.report.table_model import Column, Table
from spt.report.write_report import collected, own_runs, results_folder

WIDTHS = {"column": COLUMN, "page": PAGE}


def is_for_print(config: DictConfig) -> bool:
    """Whether the config asks for a table or figures instead of the report.

    Raises:
        SptError: if it asks for two things, or has settings of what it does not ask for.
    """
    asked = [key for key in ("cell", "format", "figures") if config[key] is not None]
    if len(asked) > 1:
        raise SptError(f"give one of {' and '.join(asked)}: each of them is instead of the report")
    for key in ("published", "marks"):
        check_flag(key, config[key])
    for key, usual in (("columns", None), ("rows", None), ("published", True)):
        if config[key] != usual and config.format is None:
            raise SptError(f"{key} chooses what a printed table shows: give format={' or format='.join(FORMATS)} too")
    if config.output is not None and asked not in (["format"], ["figures"]):
        raise SptError("output is where format and figures go: give one of them too; the report goes to results_dir")
    return asked in (["format"], ["figures"])


def for_print(config: DictConfig, fingerprint: DataFingerprint) -> None:
    """Print the tables of the config in its `format`, or write their `figures` as PDF.

    Args:
        config: of `spt.report`.
        fingerprint: computes the fingerprint of a task's data, for `data_dir`.

    Raises:
        SptError: if the format, width, columns or rows are unknown.
    """
    for key, known in (("format", FORMATS), ("figures", WIDTHS)):
        if config[key] is not None and config[key] not in known:
            raise SptError(f"unknown {key} {config[key]!r}: {nearest(str(config[key]), known)}")
    if config.output is not None and (not isinstance(config.output, str) or not config.output):
        raise SptError(f"output must name a file for format, a folder for figures, not {config.output!r}")
    titles = {str(name): str(table.title) for name, table in config.tables.items()}
    if (source := own_runs(config)) is not None:
        grouped = group_runs(source)
        titles, results = grouped.titles, grouped.results
    else:
        results = collected(config, cells(config), Records(results_folder(config) / RECORDS), fingerprint)
    runs = runs_frame(results)
    every, names = cells_frame(results, runs), Names(config)
    titles = {name: title for name, title in titles.items() if (every.table == name).any()}
    if config.figures is not None:
        width = WIDTHS[config.figures]
        by_name = drawings(titles, every, runs, names, width)
        by_name |= prefix_drawings(titles, every, prefix_frame(runs), names, width)
        _write_figures(
            by_name, config.figures, Path(config.output or results_folder(config) / "print" / config.figures)
        )
        return
    choice = Choice(_names(config, "columns"), _names(config, "rows"), config.published, config.marks)
    if source is not None:  # of several tables those that have all that is chosen
        having = {name: {*own.task, *own.quantity, *own.row, *own.model} for name, own in every.groupby("table")}
        wanted = {*choice.columns, *choice.rows}
        titles = {name: title for name, title in titles.items() if wanted <= having[name]} or titles
    prints = [
        each
        for name, title in titles.items()
        for each in print_tables(title, every[every.table == name], names, choice)
    ]
    if not prints:
        raise SptError(f"{', '.join(titles)}: no cell has a number yet; python -m spt.reproduce makes them")
    text = "\n\n".join(map(FORMATS[config.format], prints))
    if config.output is None:
        write_data(f"{text}\n")
        return
    with written(path := Path(config.output), "or set output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text + "\n")


def _names(config: DictConfig, key: str) -> tuple[str, ...]:
    """A setting that is a list of names, or null for an empty one."""
    if config[key] is not None and (not isinstance(config[key], ListConfig) or not len(config[key])):
        raise SptError(f"{key} must be a list of names, as in {key}=[a,b], not {config[key]!r}")
    return tuple(map(str, config[key] or ()))


def _write_figures(by_name: Mapping[str, Drawing], width: str, folder: Path) -> None:
    """Write the figures as PDF, and `figures.tex` with a float for each."""
    if not by_name:
        raise SptError("no run has the numbers of a figure yet; python -m spt.reproduce makes them")
    float_name = "figure" if width == "column" else "figure*"
    floats = ["% Needs \\usepackage{graphicx}."]
    with written(folder, "or set output"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, drawing in by_name.items():
            for file, content in figure_files(name, drawing.draw, ("pdf",)).items():
                write_atomically(folder / file, content)
                lines = [
                    rf"\begin{{{float_name}}}[tbp]",
                    r"\centering",
                    rf"\includegraphics[width=\linewidth]{{{file}}}",
                    rf"\caption{{{escape(drawing.caption)}}}",
                    rf"\label{{fig:{name}}}",
                    rf"\end{{{float_name}}}",
                ]
                floats.append("\n".join(lines))
        write_atomically(folder / "figures.tex", "\n\n".join(floats) + "\n")
    console.print(f"{len(by_name)} figures, with captions in {folder / 'figures.tex'}")


def _as_table(table: PrintTable) -> Table:
    """The table with scores as text: the best between two asterisks, those that tie with it between single ones."""
    heads = [Column("model"), *map(Column, table.places), *(Column(of, task) for task, of in table.columns)]
    rows = [[model, *place, *map(_text, scores)] for model, own in table.blocks for place, scores in own]
    return Table(table.caption, heads, rows)


def _text(score: Score) -> str:
    sign = "**" if score.is_best else "*" if score.is_tied else ""
    beside = [f"± {score.std}"] * bool(score.std) + [f"({score.n})"] * bool(score.n)
    return " ".join([f"{sign}{score.mean}{sign}", *beside]) + score.marks


def _markdown(table: PrintTable) -> str:
    shown = _as_table(table)
    text = markdown_table(shown).replace(r"\*", "*")
    return f"{text}\n\n{shown.title}".replace("Underlined", "In italics")


def _csv(table: PrintTable) -> str:
    shown = _as_table(table)
    heads = [f"{column.group} {column.label}".strip() for column in shown.columns]
    rows = [[text.replace("*", "") for text in row] for row in shown.rows]
    return DataFrame(rows, columns=heads).to_csv(index=False, lineterminator="\n").rstrip("\n")


FORMATS = {"latex": print_latex, "markdown": _markdown, "csv": _csv}
