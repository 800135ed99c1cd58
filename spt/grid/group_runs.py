"""The runs in a folder as cells of tables without a YAML: grouped by task, model, method and varied settings."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from spt.errors import SptError, is_number
from spt.grid.cells import Cell
from spt.grid.match_records import Finished, Result, mark_usual_data
from spt.records.comparable_settings import as_text, flat, numbers_first, short_names
from spt.records.fingerprint import settings, with_processes
from spt.records.schema import CONFIG, FAILURE, HISTORY, LOG, RECORD, read_record

TABLE = "runs"  # of the cells that are no point of a sweep

Place = tuple[str, str, str]  # task, model, method


@dataclass
class Grouped:
    """The runs of a folder as the cells of a report.

    Attributes:
        titles: the titles of the tables, by name.
        results: the cells with their runs.
        repeated: the folders of runs with settings and seed of another one, which counts in their place.
    """

    titles: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """The folder of a run with its config and its record or, without one, with the reason for that."""

    folder: Path
    config: dict[str, Any]
    finished: Finished | None = None
    failure: str | None = None
    progress: str | None = None

    @property
    def place(self) -> Place:
        """Its task, model and method."""
        task, model, method = (self.config[group]["name"] for group in ("task", "model", "method"))
        return task, model, method

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that can change a result and are not null, by dotted names, without the seed."""
        processes = self.finished.record["processes"] if self.finished else 1
        kept = flat(settings(with_processes(self.config, processes)))
        return {name: value for name, value in kept.items() if name != "seed" and value is not None}


class Method:
    """The runs of a method on a task with a model, by the settings in which they differ.

    Attributes:
        varied: the dotted names of these settings.
        rows: the runs with the same values of them, by the values as text; numbers in ascending order.
        swept: the setting, if it is a single one and its values are numbers of at least 0.
    """

    def __init__(self, place: Place, runs: Sequence[Run]):
        self.task, self.model, self.name = place
        texts = [{name: as_text(value) for name, value in run.settings.items()} for run in runs]
        names = dict.fromkeys(name for own in texts for name in own)
        self.varied = [name for name in names if len({own.get(name) for own in texts}) > 1]
        rows: dict[tuple[str, ...], list[Run]] = {}
        for run, own in zip(runs, texts, strict=True):
            rows.setdefault(tuple(own.get(name, "none") for name in self.varied), []).append(run)
        self.rows = {key: rows[key] for key in sorted(rows, key=lambda key: list(map(numbers_first, key)))}
        values = [run.settings.get(self.varied[0]) for run in runs] if len(self.varied) == 1 else [None]
        # Below 0 is -1 of max_steps, for as many as the epochs have.
        self.swept = self.varied[0] if all(is_number(value) and value >= 0 for value in values) else None


def group_runs(folder: Path) -> Grouped:
    """The runs of a folder by task, model, method, and the settings in which the runs of these differ.

    Where the runs of a method differ in a single setting and its values are numbers, they are the points of a sweep,
    and the setting has a table. Otherwise each combination of values is a row of the table `TABLE`. That table has the
    points of a sweep as rows, too, unless all methods of their task and model are swept over the same values of it.

    Raises:
        SptError: if the folder has no run, or the files of a run are damaged.
    """
    runs: dict[Place, list[Run]] = {}
    for run in _read(folder):
        runs.setdefault(run.place, []).append(run)
    if not runs:
        raise SptError(f"{folder} holds no run: python -m spt.train output_dir={folder} makes one")
    methods = [Method(place, runs[place]) for place in sorted(runs)]
    sweeps: dict[tuple[str, str], set[tuple[Any, ...]]] = {}
    for method in methods:
        sweeps.setdefault((method.task, method.model), set()).add((method.swept, *method.rows))
    # What selects the epochs of a task, which its config may leave open.
    metrics = {run.place[0]: run.finished.record["metric"] for own in runs.values() for run in own if run.finished}
    tables = short_names([TABLE, *(method.swept for method in methods if method.swept is not None)])
    labels = short_names(name for method in methods for name in method.varied)
    by_table: dict[str, list[Result]] = {}
    for method in methods:
        is_alone = len(sweeps[method.task, method.model]) == 1
        for key, own in method.rows.items():
            task = own[0].config["task"] | ({"metrics": [metric]} if (metric := metrics.get(method.task)) else {})
            if method.swept is None or not is_alone:
                words = [f"{labels[name]}={text}" for name, text in zip(method.varied, key, strict=True)]
                cell = Cell(TABLE, "", method.task, method.model, ", ".join([method.name, *words]), None, (), (), ())
                by_table.setdefault(TABLE, []).append(_result(cell, own, task))
            if (name := method.swept) is not None:
                point = (name, own[0].settings[name])
                cell = Cell(tables[name], "", method.task, method.model, method.name, point, (), (), ())
                by_table.setdefault(name, []).append(_result(cell, own, task))
    grouped = Grouped(repeated=[name for method in methods for own in method.rows.values() for name in _repeated(own)])
    for name, results in sorted(by_table.items(), key=lambda item: item[0] != TABLE):
        grouped.titles[tables[name]] = "Runs" if name == TABLE else f"Sweep over {name}"
        grouped.results += results
    mark_usual_data(grouped.results)
    return grouped


def _result(cell: Cell, runs: Sequence[Run], task: dict[str, Any]) -> Result:
    """A cell with its runs, which differ in the seed."""
    by_seed = _by_seed(runs)
    return Result(
        replace(cell, seeds=tuple(by_seed)),
        runs={seed: run.finished for seed, run in by_seed.items()},
        failures={(seed, None): run.failure for seed, run in by_seed.items() if run.failure is not None},
        unfinished={(seed, None): run.progress for seed, run in by_seed.items() if run.progress is not None},
        task=task,
    )


def _by_seed(runs: Iterable[Run]) -> dict[int, Run]:
    """The run of each seed, in ascending order: of several the first that is finished."""
    by_seed: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (run.config["seed"], run.finished is None)):
        by_seed.setdefault(run.config["seed"], run)
    return by_seed


def _repeated(runs: Sequence[Run]) -> list[str]:
    kept = {run.folder for run in _by_seed(runs).values()}
    return [run.folder.name for run in runs if run.folder not in kept]


def _read(folder: Path) -> Iterator[Run]:
    """The runs in a folder: finished, failed and unfinished ones."""
    if not folder.is_dir():
        raise SptError(f"no folder {str(folder)!r}: runs= names the output_dir of runs")
    for path in sorted(folder.iterdir()):
        if (path / RECORD).exists():
            finished = Finished(read_record(path / RECORD), path)
            yield Run(path, finished.record["config"] | {"seed": finished.record["seed"]}, finished)
        elif (path / FAILURE).exists():
            note = read_record(path / FAILURE)
            yield Run(path, note["config"] | {"seed": note["seed"]}, failure=note["error"])
        elif (path / CONFIG).is_file() and (path / LOG).is_file():
            failure, progress = _why_unfinished(path)
            yield Run(path, _config(path / CONFIG), failure=failure, progress=progress)


def _config(path: Path) -> dict[str, Any]:
    """The config of a run without a record; SptError if it is something else."""
    config: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if not isinstance(config, dict) or not {"task", "model", "method", "seed"} <= config.keys():
        raise SptError(f"{path} is not the config of a run: it is damaged; delete its folder")
    return config


def _why_unfinished(folder: Path) -> tuple[str | None, str | None]:
    """The error that the log ends with; without one, how far the run is."""
    parts = re.split(r"^\S+ \S+ (INFO|WARNING|ERROR) ", (folder / LOG).read_text(encoding="utf-8"), flags=re.MULTILINE)
    if parts[-2:-1] == ["ERROR"]:
        return parts[-1].strip(), None
    history = folder / HISTORY
    lines = history.read_text(encoding="utf-8") if history.exists() else ""  # the last may be half a line
    epochs = max(map(int, re.findall(r'^{"epoch": (\d+)\b.*}$', lines, flags=re.MULTILINE)), default=0)
    return None, f"unfinished after {epochs} epochs: its command again resumes it"
