"""Write the report: read the records, compute the frames, and write tables, figures and README."""

import csv
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from pandas import DataFrame
from rich import box
from rich.table import Table as TerminalTable

from spt.console import console
from spt.errors import SptError
from spt.figure_style import figure_files
from spt.files import replacing, written
from spt.grid.cells import Cell, cells
from spt.grid.compose_configs import Composer
from spt.grid.local_data import DataFingerprint, LocalSources
from spt.grid.match_records import RECORDS, Records, Result, collect, find_changed
from spt.paths import CONF
from spt.report.cell_sources import select, trace
from spt.report.csv_files import csv_text
from spt.report.display_names import Names
from spt.report.figures import drawings
from spt.report.latex import latex
from spt.report.markdown import markdown
from spt.report.number_format import mean_and_std
from spt.report.paired_tests import paired_tests
from spt.report.prefix_figures import prefix_drawings
from spt.report.prefix_frame import prefix_csv, prefix_frame
from spt.report.prefix_tables import HEADING, prefix_tables
from spt.report.print_tables import Choice, print_tables
from spt.report.readme import DEFAULT_PROFILES, readme
from spt.report.runs_frame import CELL, runs_frame
from spt.report.seed_means import cells_frame, unselected
from spt.report.table_model import Section, Table
from spt.report.tables import sections
from spt.terminal_table import print_table

TABLES, FIGURES, README = "tables", "figures", "README.md"

PROCESSES = 2  # that draw figures, which takes as long as everything else


def report(config: DictConfig, fingerprint: DataFingerprint) -> None:
    """Write the report of the records in `results_dir`, and print the main numbers.

    Args:
        config: of `spt.report`.
        fingerprint: computes the fingerprint of a task's data, for `data_dir`.

    Raises:
        SptError: if the folder has tables that this report would leave out.
    """
    folder = results_folder(config)
    every = cells(config)
    refuse_to_leave_out(config, folder)
    shipped = {path.stem for path in (CONF / "table").glob("*.yaml")}
    is_whole = set(config.tables) == shipped and list(config.profiles) in (DEFAULT_PROFILES, ["smoke"])
    results = collected(config, every, folder, fingerprint, is_whole)
    runs = runs_frame(results)
    frame = cells_frame(results, runs)
    files = write_report(config, frame, runs, folder)
    show(frame)
    console.print(f"{len(files)} files: {folder / README} has them all", highlight=False, soft_wrap=True)


def tell(config: DictConfig, fingerprint: DataFingerprint) -> None:
    """Print where the numbers of the config's `cell` come from."""
    chosen = select(cells(config), str(config.cell), config.profiles)
    for result in collected(config, chosen, results_folder(config), fingerprint):
        console.print(trace(result), soft_wrap=True, markup=False, highlight=False, end="")


def results_folder(config: DictConfig) -> Path:
    """The folder with the records and the report."""
    if not isinstance(config.results_dir, str) or not config.results_dir:
        raise SptError(f"results_dir must be a folder, not {config.results_dir!r}")
    return Path(config.results_dir)


def reported(folder: Path) -> dict[str, set[str]]:
    """The names of the tables and of the profiles that the report in a folder has, as `table` and `profile`."""
    rows: list[dict[str, str]] = []
    for path in sorted((folder / TABLES).glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return {group: {row.get(group, "") for row in rows} for group in ("table", "profile")}


def refuse_to_leave_out(config: DictConfig, folder: Path) -> None:
    """Refuse a report that has not all tables and profiles of the one in the folder."""
    for group, names in reported(folder).items():
        if missing := sorted(names - set(config[f"{group}s"])):
            raise SptError(
                f"{folder / TABLES} has the {group} {', '.join(missing)}, which this report would leave out: name all "
                f"of them in {group}=, delete the folder, or set another results_dir"
            )


def collected(
    config: DictConfig, chosen: Iterable[Cell], folder: Path, fingerprint: DataFingerprint, is_whole: bool = False
) -> list[Result]:
    """The cells with their records and, if they are the whole grid, with the records of no cell."""
    records, composer = Records(folder / RECORDS), Composer()
    sources = LocalSources(config.folders, fingerprint, config.data_dir)
    results = collect(chosen, records, composer)
    if sources.data_dir is not None:
        for result in results:
            if result.done:
                result.usual_data = sources.data_fingerprint(result.cell, composer) or result.usual_data
    if is_whole:
        find_changed(results, records, composer)
    return results


def write_report(config: DictConfig, every: DataFrame, runs: DataFrame, folder: Path) -> list[Path]:
    """Write the tables, figures and README.

    Files of an earlier report that this one does not have are deleted; a file that would not change is not written.

    Args:
        config: of `spt.report`, for titles of tables and names of profiles.
        every: the `cells_frame` of all tables.
        runs: their `runs_frame`.
        folder: where `tables/`, `figures/` and `README.md` are written.

    Returns:
        The report's files.
    """
    titles = {str(name): str(table.title) for name, table in config.tables.items() if (every.table == name).any()}
    tests: dict[str, DataFrame] = {}
    tables: dict[str, bytes] = {}
    drawn: dict[str, bytes] = {}
    prefixes, names = prefix_frame(runs), Names(config)
    learned: dict[str, list[Table]] = {}
    with ProcessPoolExecutor(PROCESSES) as pool:
        figures = drawings(titles, every, runs, names) | prefix_drawings(titles, every, prefixes, names)
        pending = pool.map(partial(figure_files, kinds=("svg",)), figures, [each.draw for each in figures.values()])
        for name, title in titles.items():
            own, own_runs = every[every.table == name], runs[runs.table == name]
            tests[name] = paired_tests(own, own_runs)
            page = sections(own, own_runs, tests[name])
            if found := prefix_tables(own, own_prefixes := prefixes[prefixes.table == name]):
                learned[name] = found
                page.append(Section(HEADING, tables=found))
                tables[f"{name}.prefixes.csv"] = prefix_csv(own_prefixes).encode()
            prints = print_tables(title, own, names, Choice(marks=config.marks))
            tables[f"{name}.md"] = markdown(title, page).encode()
            tables[f"{name}.tex"] = latex(name, title, prints, page, names, config.marks).encode()
            tables[f"{name}.csv"] = csv_text(own).encode()
        for files in pending:
            drawn |= files
    captions = {f"{name}.svg": figures[name].caption for name in sorted(figures)}
    text = readme(titles, list(config.profiles), every, runs, tests, captions, learned)
    with written(folder, "or set results_dir"):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, {README: text.encode()})
        for part, files in ((TABLES, tables), (FIGURES, drawn)):
            _replace_all(folder / part, files)
    return [
        folder / README,
        *(folder / part / name for part, files in ((TABLES, tables), (FIGURES, drawn)) for name in sorted(files)),
    ]


def _replace_all(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files of a folder, and delete all others in it; a folder without files is deleted."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink(missing_ok=True)
    _write(folder, files)
    if not files:
        folder.rmdir()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            with replacing(path) as partial:
                partial.write_bytes(content)


def show(every: DataFrame) -> None:
    """Print the main numbers of all cells that have any, and the number of cells in each state."""
    table = TerminalTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("cell", "of", "ours", "seeds", "published"):
        table.add_column(name, no_wrap=True)
    for _, own in every[every.n > 0].groupby(CELL, sort=False):
        for name in dict.fromkeys(["best_dev", unselected(own.quantity)]):
            line = own[own.quantity == name].iloc[0]
            published = line.references[0]["value"] if line.references else "none"
            ours = f"{mean_and_std(line['mean'], line['std'])}{line.marks}"
            table.add_row(line.cell, name, ours, f"{line.n} of {line.planned}", published)
    if table.row_count:
        print_table(table, ["published"])
    states = every.drop_duplicates(CELL).cell_state
    counts = ", ".join(f"{n} {state}" for state, n in states.value_counts(sort=False).items())
    console.print(f"{len(states)} cells: {counts}", highlight=False)
