"""The report: tables, figures and a README of the committed records, `python -m spt.report`, and where a cell's numbers
come from, `python -m spt.report cell=superglue/cb/minilm/spt`.
"""

import csv
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from spt.errors import SptError, nearest
from spt.files import replacing, written
from spt.grid.cells import Cell, Composer, cells
from spt.grid.local_sources import Places
from spt.grid.match_records import RECORDS, Records, Result, collect, find_changed
from spt.numerics import NUMERICS
from spt.paths import CONF

TABLES, FIGURES, README = "tables", "figures", "README.md"


def report(config: DictConfig) -> None:
    """Write the report of the records in `results_dir`, and show the main numbers.

    Raises:
        SptError: where the folder has tables that this report would leave out.
    """
    from spt.report.readme import USUAL

    folder, wanted = _folder(config), cells(config)
    there = _rows(folder)
    for group in ("table", "profile"):
        if others := sorted({row.get(group, "") for row in there} - set(config[f"{group}s"])):
            raise SptError(
                f"{folder / TABLES} has the {group} {', '.join(others)}, which this report would leave out: name all "
                f"of them in {group}=, delete the folder, or set another results_dir"
            )
    every = [path.stem for path in (CONF / "table").glob("*.yaml")]
    whole = set(config.tables) == set(every) and list(config.profiles) in (USUAL, ["smoke"])
    results = _collected(config, wanted, folder, whole)
    show(results, folder, write_report(config, results, folder))


def tell(config: DictConfig) -> None:
    """Print where the numbers of a cell come from."""
    from spt.console import console

    folder, every = _folder(config), cells(config)
    wanted = [cell for cell in every if cell.name == config.cell]
    if not wanted:
        profiles = ", ".join(config.profiles)
        raise SptError(
            f"unknown cell {str(config.cell)!r} of profile {profiles}: "
            f"{_hint(str(config.cell), [cell.name for cell in every])}"
        )
    for result in _collected(config, wanted, folder):
        console.print("\n".join(trace(result)), soft_wrap=True, markup=False, highlight=False)


def _rows(folder: Path) -> list[dict[str, str]]:
    """The lines of the tables that are in a folder."""
    found: list[dict[str, str]] = []
    for path in sorted((folder / TABLES).glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += csv.DictReader(file)
    return found


def _folder(config: DictConfig) -> Path:
    if not isinstance(config.results_dir, str) or not config.results_dir:
        raise SptError(f"results_dir must be a folder, not {config.results_dir!r}")
    return Path(config.results_dir)


def _collected(config: DictConfig, wanted: Iterable[Cell], folder: Path, whole: bool = False) -> list[Result]:
    """The cells with their records; if they are the `whole` grid, those of changed cells too."""
    records, composer, places = Records(folder / RECORDS), Composer(), Places(config.folders, config.data_dir)
    results = collect(wanted, records, composer)
    if places.data_dir is not None:
        for result in results:
            if result.done:
                result.usual_data = places.data_of(result.cell, composer) or result.usual_data
    if whole:
        find_changed(results, records, composer)
    return results


def write_report(config: DictConfig, results: Sequence[Result], folder: Path) -> list[Path]:
    """Write the tables, figures and README of some results.

    Files of an earlier report that this one does not have are removed; one that would not change is not written.

    Args:
        config: of `spt.report` or `spt.reproduce`: its tables have titles, its profiles names.
        results: of its cells.
        folder: where `tables/`, `figures/` and `README.md` go.

    Returns:
        The report's files.
    """
    from spt.report.comparisons import Comparison, comparisons
    from spt.report.figures import figures
    from spt.report.markup import csv_text, latex, markdown
    from spt.report.readme import readme
    from spt.report.tables import COLUMNS, csv_rows, sections

    tables: dict[str, bytes] = {}
    compared: dict[str, list[Comparison]] = {}
    for name, table in config.tables.items():
        own = [result for result in results if result.cell.table == name]
        if own:
            compared[name] = comparisons(own)
            found = sections(own, compared[name])
            tables[f"{name}.md"] = markdown(table.title, found).encode()
            tables[f"{name}.tex"] = latex(table.title, found).encode()
            tables[f"{name}.csv"] = csv_text(COLUMNS, csv_rows(own)).encode()
    titles = {str(name): str(table.title) for name, table in config.tables.items() if f"{name}.md" in tables}
    drawn = figures(titles, results)
    text = readme(titles, list(config.profiles), results, compared, sorted(drawn))
    with written(folder, "or set results_dir"):
        others = _write(folder / TABLES, tables) + _write(folder / FIGURES, drawn)
        return [*_write(folder, {README: text.encode()}, only=False), *others]


def _write(folder: Path, files: dict[str, bytes], only: bool = True) -> list[Path]:
    """Write files where they differ, and where the folder is to hold `only` them, remove the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir() if only else ():
        if path.is_file() and path.name not in files:
            path.unlink(missing_ok=True)
    for name, content in files.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            with replacing(path) as partial:
                partial.write_bytes(content)
    if not files and only:
        folder.rmdir()
    return [folder / name for name in sorted(files)]


def trace(result: Result) -> list[str]:
    """Where a cell's numbers come from: its runs with all that made them; for what is not run, the commands."""
    from spt.report.measured import published_for

    cell = result.cell
    text = [f"{cell.name} (profile {cell.profile}): {result.state}"]
    text += [
        f"published: {row['value']} ({row['metric']} on {row['split']}, {row['selection']}"
        f"{', seed ' + row['seed'] if row['seed'] else ''}), {row['source']}"
        for row in published_for(cell)
    ]
    if result.trials:
        chosen = "not chosen yet" if result.learning_rate is None else f"{result.learning_rate:g}"
        text.append(f"learning rate {chosen}, of {', '.join(f'{rate:g}' for rate in result.trials)}")
    decided = result.learning_rate is not None or not result.trials
    runs = {(seed, result.learning_rate): run for seed, run in result.runs.items() if decided}
    tries = {(cell.seeds[0], rate): run for rate, run in result.trials.items()}
    for (seed, rate), run in (runs | tries).items():
        role = "" if (seed, rate) in runs else ", a try of a learning rate"
        if run is not None:
            text += ["", f"seed {seed}{role}: {run.folder.name}", *_facts(run.record)]
        else:
            error = result.failures.get((seed, rate))
            said = "not run" if error is None else f"failed: {error}"
            text += ["", f"seed {seed}{role}: {said}", f"  {_command(result, seed, rate)}"]
    if not decided:
        text += ["", f"then seeds {', '.join(map(str, cell.seeds[1:]))} with the learning rate that is chosen"]
    return text


def _hint(wanted: str, names: Sequence[str]) -> str:
    """What could stand where the name of a cell is no longer one."""
    parts, known, before = [*wanted.split("/"), ""], [name.split("/") for name in names], list[str]()
    while parts[0] in (following := {name[0] for name in known if name}):
        before.append(parts.pop(0))
        known = [name[1:] for name in known if name[:1] == before[-1:]]
    if not following:
        return f"did you mean {'/'.join(before)!r}?"
    places = ("table", "task", "model", "row", "the swept value")
    place = f"after {'/'.join(before)}/ comes {places[len(before)]}" if before else "table/task/model/row"
    return f"{place}: {nearest(parts[0], following)}"


def _command(result: Result, seed: int, rate: float | None) -> str:
    from spt.grid.cells import Job

    return shlex.join(["python", "-m", "spt.train", *Job(result.cell, seed, rate).overrides])


def _facts(record: dict[str, Any]) -> list[str]:
    from spt.console import percent
    from spt.report.measured import hardware

    git = record["git"]
    tree = {None: "", True: " (uncommitted changes)", False: " (clean)"}[git["dirty"]]
    scores = ", ".join(f"{name} {percent(score)}" for name, score in record["metrics"].items() if score is not None)
    facts = {
        "scores": f"{record['metric']}: {scores or 'none'}; best epoch {record['best_epoch']}, {record['status']}",
        "command": record["command"],
        "commit": f"{git['commit'] or 'not in a repository'}{tree}",
        "numerics": f"version {record['numerics']}, now {NUMERICS}",
        "data": record["data"]["fingerprint"],
        "weights": record["model_sha256"],
        "hardware": hardware(record),
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
    return [f"  {name:<10}{value}" for name, value in facts.items()] + [f"  {text}" for text in record["warnings"]]


def show(results: Sequence[Result], folder: Path, written: Iterable[Path]) -> None:
    """What was written, and the main numbers, on the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from spt.report.measured import lines, unselected
    from spt.report.tables import number

    table = Table("cell", "of", "ours", "seeds", "published", box=box.SIMPLE)
    for result in results:
        every = {line.quantity: line for line in lines([result]) if line.ours}
        for name in dict.fromkeys(["best_dev", unselected(list(every))]) if every else ():
            line = every[name]
            assert line.ours is not None
            spread = "" if line.ours.std is None else f" ± {number(line.ours.std)}"
            ours = f"{number(line.ours.mean)}{spread}{line.marks}"
            beside = line.published[0]["value"] if line.published else "none"
            table.add_row(result.cell.name, name, ours, f"{line.ours.n} of {len(result.cell.seeds)}", beside)
    console = Console(width=200)  # a narrow terminal may wrap the lines
    if table.row_count:
        console.print(table)
    files = list(written)
    states = [result.state for result in results]
    counts = ", ".join(f"{states.count(word)} {word}" for word in dict.fromkeys(states))
    console.print(f"{len(results)} cells: {counts}", highlight=False)
    console.print(f"{len(files)} files: {folder / README} has them all", highlight=False, soft_wrap=True)
