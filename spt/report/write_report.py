"""Write the report: read the records, compute the frames, and write tables, figures and README."""

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from omegaconf import DictConfig
from pandas import DataFrame

from spt.console import console
from spt.errors import SptError
from spt.figure_style import figure_files
from spt.files import write_if_changed, written
from spt.grid.cells import Cell, Job, cells
from spt.grid.compose_configs import Composer
from spt.grid.group_runs import group_runs
from spt.grid.local_data import DataFingerprint, LocalSources
from spt.grid.match_records import RECORDS, Records, Result, collect, unused_runs
from spt.paths import CONF, local_path
from spt.report.cell_sources import select, trace
from spt.report.compact_tables import Choice, print_tables
from spt.report.figures import drawings, prefix_drawings
from spt.report.latex import latex
from spt.report.markdown import markdown
from spt.report.number_format import Names, mean_and_std
from spt.report.page import PAGE, page
from spt.report.paired_tests import paired_tests, trends
from spt.report.prefix_claims import prefix_claims
from spt.report.prefix_frame import prefix_csv, prefix_frame
from spt.report.prefix_tables import HEADING, SIMILARITY_OF_SLOTS, prefix_tables
from spt.report.readme import DEFAULT_PROFILES, command, not_run, readme
from spt.report.runs_frame import CELL, each_row, runs_frame
from spt.report.seed_means import cells_frame, csv_text, unselected
from spt.report.table_model import Section, Table
from spt.report.tables import sections
from spt.report.verdicts import Verdict, verdicts
from spt.terminal_table import plain_table, print_table

TABLES, FIGURES, README = "tables", "figures", "README.md"

GENERATOR = '<meta name="generator" content="python -m spt.report">'  # in the page of every report

DEFAULT_RESULTS = "results"  # results_dir in conf/report.yaml

REPORT = "report"  # the folder of the report of one's own runs, beside them

PROCESSES = 2  # that draw figures, which takes as long as everything else


def report_records(config: DictConfig, fingerprint: DataFingerprint) -> None:
    """Write the report of the records in `results_dir`, or of a folder of runs, and print the main numbers.

    Args:
        config: of `spt.report`.
        fingerprint: computes the fingerprint of a task's data, for `data_dir`.

    Raises:
        SptError: if the folder has tables that this report would leave out.
    """
    if (source := own_runs(config)) is not None:
        return _report_runs(config, source)
    folder = results_folder(config)
    every = cells(config)
    refuse_to_leave_out(config, folder)
    shipped = {path.stem for path in (CONF / "table").glob("*.yaml")}
    profiles = set(config.profiles)
    is_whole = set(config.tables) == shipped and (profiles >= set(DEFAULT_PROFILES) or profiles == {"smoke"})
    records = Records(folder / RECORDS)
    results = collected(config, every, records, fingerprint)
    runs = runs_frame(results)
    frame = cells_frame(results, runs)
    files = write_files(config, frame, runs, folder, unused_runs(results, records) if is_whole else ())
    show(frame)
    console.print(f"{len(files)} files: {folder / PAGE} and {folder / README} have them all")


def _report_runs(config: DictConfig, source: Path) -> None:
    """Write the report of the runs in a folder, by what they are of and what varies, and print it.

    Raises:
        SptError: if it would replace published results or files that are no report's.
    """
    folder = results_folder(config)
    if (folder / RECORDS).is_dir() or folder.resolve().parent.name == RECORDS:
        raise SptError(f"{folder} belongs to published results: set results_dir to a folder for the report of {source}")
    refuse_to_replace(folder)
    grouped = group_runs(source)
    runs = runs_frame(grouped.results)
    frame = cells_frame(grouped.results, runs)
    parts = _parts(config, grouped.titles, frame, runs)
    lines = not_run(frame.drop_duplicates(CELL), runs)
    lines += [f"{name} has settings and seed of another run, which counts in its place" for name in grouped.repeated]
    html = page(
        f"Runs in {source}",
        shlex.join(["python", "-m", "spt.report", f"runs={source}"]),
        *(grouped.titles, frame, runs, parts.prefixes, parts.sections, lines),
        [verdict for verdict in parts.verdicts if verdict.table is not None],
    )
    files = _write_all(folder, {PAGE: html}, parts)
    show(frame)
    console.print(f"{len(files)} files: {folder / PAGE} shows them all")


def explain_cell(config: DictConfig, fingerprint: DataFingerprint) -> None:
    """Print where the numbers of the config's `cell` come from."""
    records = Records(results_folder(config) / RECORDS)
    chosen = select(cells(config), str(config.cell), config.profiles)
    for result in collected(config, chosen, records, fingerprint):
        console.print(trace(result), soft_wrap=True, markup=False, highlight=False, end="")


def results_folder(config: DictConfig) -> Path:
    """The folder with the records and the report; of one's own runs that of the report, by default beside them."""
    if not isinstance(config.results_dir, str) or not config.results_dir:
        raise SptError(f"results_dir must be a folder, not {config.results_dir!r}")
    source, folder = own_runs(config), Path(config.results_dir)
    return source / REPORT if source is not None and folder == Path(DEFAULT_RESULTS) else folder


def own_runs(config: DictConfig) -> Path | None:
    """The folder of one's own runs that the config names, if it names one."""
    return None if config.runs is None else local_path(str(config.runs))


def refuse_settings_of_tables(overrides: Iterable[str]) -> None:
    """Refuse what a report of one's own runs would ignore."""
    for key in {override.partition("=")[0] for override in overrides} & {"cell", "data_dir", "table", "profile"}:
        raise SptError(f"{key}= is for the tables of conf/table, not for runs=: leave it out")


def reported(folder: Path) -> dict[str, set[str]]:
    """The names of the tables and of the profiles that the report in a folder has, as `table` and `profile`."""
    rows: list[dict[str, str]] = []
    for path in sorted((folder / TABLES).glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return {group: {row.get(group, "") for row in rows} for group in ("table", "profile")}


def refuse_to_replace(folder: Path, *names: str) -> None:
    """Refuse to write a report to a folder with files or folders of these names that no report has written."""
    page = folder / PAGE
    if page.is_file() and GENERATOR in page.read_text(encoding="utf-8", errors="replace"):
        return
    for name in (PAGE, TABLES, FIGURES, *names):
        if (folder / name).exists():
            raise SptError(f"{folder / name} is not of a report, which would replace it: set another results_dir")


def refuse_to_leave_out(config: DictConfig, folder: Path) -> None:
    """Refuse a report that has not all tables and profiles of the one in the folder, or would replace other files."""
    refuse_to_replace(folder, README)
    for group, names in reported(folder).items():
        if missing := sorted(names - set(config[f"{group}s"])):
            raise SptError(
                f"{folder / TABLES} has the {group} {', '.join(missing)}, which this report would leave out: name all "
                f"of them in {group}=, delete the folder, or set another results_dir"
            )


def collected(
    config: DictConfig, chosen: Iterable[Cell], records: Records, fingerprint: DataFingerprint
) -> list[Result]:
    """The cells with their records."""
    composer = Composer()
    sources = LocalSources(config.folders, fingerprint, config.data_dir)
    results = collect(chosen, records, composer)
    if sources.data_dir is not None:
        for result in results:
            if result.done:
                job = Job(result.cell, result.cell.seeds[0], None)
                result.usual_data = sources.fingerprint_of(job, composer) or result.usual_data
    return results


@dataclass
class Parts:
    """The parts of a report: what page and README tell of, by table, and the files of tables and figures.

    Attributes:
        prefixes: the `prefix_frame` of all tables.
        verdicts: what the tests of all tables answer.
        sections: of the page of each table.
        learned: of each table that has any, those of `prefix_tables` that are short enough for the README.
        captions: of the figures, by name.
        files: their contents by path, such as `tables/ner.md`.
    """

    prefixes: DataFrame
    verdicts: list[Verdict] = field(default_factory=list)
    sections: dict[str, list[Section]] = field(default_factory=dict)
    learned: dict[str, list[Table]] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def write_files(
    config: DictConfig, every: DataFrame, runs: DataFrame, folder: Path, unused: Sequence[str] = ()
) -> list[Path]:
    """Write the tables, figures, page and README.

    Files of an earlier report that this one does not have are deleted; a file that would not change is not written.

    Args:
        config: of `spt.report`, for titles of tables and names of profiles.
        every: the `cells_frame` of all tables.
        runs: their `runs_frame`.
        folder: where `tables/`, `figures/`, `index.html` and `README.md` are written.
        unused: the `unused_runs`.

    Returns:
        The report's files.
    """
    titles = {str(name): str(table.title) for name, table in config.tables.items() if (every.table == name).any()}
    parts, profiles = _parts(config, titles, every, runs), list(config.profiles)
    text = readme(
        *(titles, profiles, every, runs, parts.verdicts, parts.captions, parts.learned),
        *(prefix_claims(parts.prefixes), unused),
    )
    html = page(
        "Selective Prefix Tuning: results",
        command(titles, profiles),
        *(titles, every, runs, parts.prefixes, parts.sections),
        not_run(every.drop_duplicates(CELL), runs),
        parts.verdicts,
    )
    return _write_all(folder, {PAGE: html, README: text}, parts)


def _parts(config: DictConfig, titles: Mapping[str, str], every: DataFrame, runs: DataFrame) -> Parts:
    parts, names = Parts(prefix_frame(runs)), Names(config)
    tests = []
    with ProcessPoolExecutor(PROCESSES) as pool:
        figures = drawings(titles, every, runs, names) | prefix_drawings(titles, every, parts.prefixes, names)
        pending = pool.map(partial(figure_files, kinds=("svg",)), figures, [each.draw for each in figures.values()])
        for name, title in titles.items():
            own, own_runs = every[every.table == name], runs[runs.table == name]
            own_prefixes = parts.prefixes[parts.prefixes.table == name]
            own_tests = paired_tests(own, own_runs)
            tests += [own_tests, trends(own, own_runs)]
            parts.sections[name] = sections(own, own_runs, own_tests)
            path = f"{TABLES}/{name}"
            if tables := prefix_tables(own, own_prefixes):
                parts.learned[name] = [table for table in tables if table.title == SIMILARITY_OF_SLOTS]
                parts.sections[name].append(Section(HEADING, tables=tables))
                parts.files[f"{path}.prefixes.csv"] = prefix_csv(own_prefixes).encode()
            prints = print_tables(title, own, names, Choice(marks=config.marks))
            parts.files[f"{path}.md"] = markdown(title, parts.sections[name]).encode()
            parts.files[f"{path}.tex"] = latex(title, prints).encode()
            parts.files[f"{path}.csv"] = csv_text(own).encode()
        parts.files |= {f"{FIGURES}/{name}": svg for files in pending for name, svg in files.items()}
    parts.verdicts = verdicts(tests)
    parts.captions = {name: figures[name].caption for name in sorted(figures)}
    return parts


def _write_all(folder: Path, texts: Mapping[str, str], parts: Parts) -> list[Path]:
    """Write the files of a report; of an earlier report's tables and figures, those that this one lacks are deleted."""
    files = {name: text.encode() for name, text in texts.items()} | parts.files
    with written(folder, "or set results_dir"):
        for part, kinds in ((TABLES, (".md", ".tex", ".csv")), (FIGURES, (".svg",))):
            for path in (folder / part).glob("*"):
                if path.suffix in kinds and f"{part}/{path.name}" not in files:
                    path.unlink(missing_ok=True)
            with suppress(OSError):  # it has files, or is not there
                (folder / part).rmdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_if_changed(folder / name, content)
    return [folder / name for name in files]


def show(every: DataFrame) -> None:
    """Print the main numbers of all cells that have any, and the number of cells in each state."""
    table = plain_table()
    for name in ("cell", "of", "ours", "seeds", "published"):
        table.add_column(name, no_wrap=True)
    for _, lines in groupby(each_row(every[every.n > 0]), lambda line: (line.profile, line.cell)):
        by_quantity = {line.quantity: line for line in lines}
        for line in (by_quantity[name] for name in dict.fromkeys(["best_dev", unselected(by_quantity)])):
            published = line.references[0]["value"] if line.references else "none"
            score = f"{mean_and_std(line.mean, line.std)}{line.marks}"
            table.add_row(line.cell, line.quantity, score, f"{line.n} of {line.planned}", published)
    if table.row_count:
        print_table(table, ["published"])
    states = every.drop_duplicates(CELL).cell_state
    counts = ", ".join(f"{n} {state}" for state, n in states.value_counts(sort=False).items())
    console.print(f"{len(states)} cells: {counts}", highlight=False)
