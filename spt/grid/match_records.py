"""The finished runs behind the tables: which belong to which cell, and what is still missing."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spt.errors import SptError
from spt.files import parsed, write_atomically, written
from spt.grid.cells import Cell, Composer, Job, comparable, flat, identity
from spt.records.schema import FAILURE, HISTORY, OUTCOMES, RECORD, read_record

RECORDS = "records"  # the folder, in one of results, with the published records


@dataclass(frozen=True)
class Finished:
    """A finished run: its record, and the files beside it. Of one that failed, the note of it."""

    record: dict[str, Any]
    folder: Path

    @cached_property
    def identity(self) -> str:
        """What was run, wherever its data and its weights lay."""
        several = {"processes": n} if (n := self.record["processes"]) > 1 else {}
        return identity(self.record["config"] | several)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """One row an epoch."""
        return [parsed(line) for line in self.text(HISTORY).splitlines()]

    @cached_property
    def outcomes(self) -> dict[str, list | None]:
        """How each example came out, by the names of the record's metrics; see `spt.tasks.base.Task.outcomes`."""
        return parsed(self.text(OUTCOMES))

    def text(self, name: str) -> str:
        """One of the JSON files beside the record.

        Raises:
            SptError: where it is missing, or none.
        """
        path = self.folder / name
        try:
            text = path.read_text(encoding="utf-8")
            for line in text.splitlines():
                parsed(line)
        except (OSError, ValueError) as error:
            raise SptError(
                f"{path} cannot be read ({error}): it is missing while its run is repeated; else delete the folder "
                "to repeat it"
            ) from error
        return text


class Records:
    """All records, and notes of failed runs, in some folders of runs, by the identity of their configs.

    Where several are of one identity, that of the first folder counts.
    """

    def __init__(self, *folders: Path):
        self.finished: dict[str, Finished] = {}
        self.failures: dict[str, Finished] = {}
        self.seen: set[tuple[str, str]] = set()
        for folder in folders:
            for runs, name in ((self.finished, RECORD), (self.failures, FAILURE)):
                for run in _read(folder, name):
                    runs.setdefault(run.identity, run)
        for run in (*self.finished.values(), *self.failures.values()):
            self.seen.add((run.record["task"], run.record["model"]))


def _read(folder: Path, name: str) -> Iterator[Finished]:
    for path in sorted(folder.glob(f"*/{name}")):
        try:
            record = read_record(path)
        except SptError:
            if path.exists():
                raise
            continue  # another process just took it away
        yield Finished(record, path.parent)


@dataclass
class Result:
    """A cell and its runs.

    Attributes:
        learning_rate: the one chosen, None where the config's own is taken, or where not all trials are done.
        trials: the run of each learning rate that was tried, None where it is missing.
        runs: the run of each seed with the learning rate chosen, None where it is missing.
        failures: what failed, by seed and learning rate.
        usual_data: the fingerprint of the data that most runs of its task and profile saw; where a report is told
            where data is, that of the data there.
        changed: runs that were the cell's with settings that no cell has now, and what those are (see `find_changed`).
    """

    cell: Cell
    learning_rate: float | None = None
    trials: dict[float, Finished | None] = field(default_factory=dict)
    runs: dict[int, Finished | None] = field(default_factory=dict)
    failures: dict[tuple[int, float | None], str] = field(default_factory=dict)
    usual_data: str | None = None
    changed: list[tuple[Finished, list[str]]] = field(default_factory=list)

    @property
    def done(self) -> dict[int, Finished]:
        """The runs that are there, by seed."""
        return {seed: run for seed, run in self.runs.items() if run is not None}

    @property
    def finished(self) -> list[Finished]:
        """All runs that are there, tries of learning rates first."""
        return [run for run in (*self.trials.values(), *self.runs.values()) if run is not None]

    @property
    def state(self) -> str:
        """What there is of it: `done`, `partly` (some of its runs), `failed` (none, and a failure is known), `config
        changed` (none, but some with other settings) or `not run`."""
        if self.runs and all(run is not None for run in self.runs.values()):
            return "done"
        if self.done:
            return "partly"
        return "failed" if self.failures else "config changed" if self.changed else "not run"

    @property
    def selection(self) -> dict[str, Any] | None:
        """How the learning rate was chosen, for the record."""
        if not self.trials:
            return None
        return {
            "setting": "trainer.learning_rate",
            "chosen": self.learning_rate,
            "by": "best_dev, the first of equals",
            "seed": self.cell.seeds[0],
            "best_dev": {str(rate): run and run.record["metrics"]["best_dev"] for rate, run in self.trials.items()},
        }


def collect(cells: Iterable[Cell], records: Records, composer: Composer) -> list[Result]:
    """Each cell with the records that are its own."""
    results = [_collect(cell, records, composer) for cell in cells]
    seen: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        prints = [run.record["data"].get("fingerprint") for run in result.done.values()]
        seen.setdefault((result.cell.profile, result.cell.task), Counter()).update(prints)
    for result in results:
        usual = seen[result.cell.profile, result.cell.task].most_common(1)
        result.usual_data = usual[0][0] if usual else None
    return results


def _collect(cell: Cell, records: Records, composer: Composer) -> Result:
    result = Result(cell, runs=dict.fromkeys(cell.seeds), trials=dict.fromkeys(cell.learning_rates))
    if (cell.task, cell.model) not in records.seen:
        return result

    def find(job: Job) -> Finished | None:
        key = composer.identity(job)
        run = records.finished.get(key)
        if run is None and key in records.failures:
            result.failures[job.seed, job.learning_rate] = records.failures[key].record["error"]
        return run

    result.trials = {rate: find(Job(cell, cell.seeds[0], rate)) for rate in cell.learning_rates}
    result.learning_rate = choose(result)
    if result.learning_rate is not None or not cell.learning_rates:
        result.runs = {job.seed: find(job) for job in cell.jobs(result.learning_rate)}
    return result


def find_changed(results: Sequence[Result], records: Records, composer: Composer) -> None:
    """Give each record that is of no cell to the one it differs least from, of the same task, model and method."""
    jobs = [
        (result, [Job(result.cell, seed, rate) for seed in result.cell.seeds for rate in _rates(result)])
        for result in results
        if (result.cell.task, result.cell.model) in records.seen
    ]
    known = {composer.identity(job) for _, its in jobs for job in its}
    for key, run in records.finished.items():
        if key in known:
            continue
        names = [run.record[group] for group in ("task", "model", "method")]
        differences = [
            (_differences(composer.config(job), run.record["config"]), result)
            for result, its in jobs
            if [result.cell.task, result.cell.model] == names[:2]
            for job in its
            if composer.config(job)["method"]["name"] == names[2]
        ]
        if differences:
            said, nearest = min(differences, key=lambda found: len(found[0]))
            nearest.changed.append((run, said))


def _rates(result: Result) -> Sequence[float | None]:
    return result.cell.learning_rates or [None]


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The settings that change what is run, in which two resolved configs differ."""
    a, b = (flat(comparable(config)) for config in (ours, theirs))
    absent = "none"
    return [
        f"{name} was {b.get(name, absent)}, is {a.get(name, absent)}"
        for name in sorted(a.keys() | b.keys())
        if a.get(name, absent) != b.get(name, absent)
    ]


def choose(result: Result) -> float | None:
    """The learning rate with the best dev score, the first of equals; None while a trial is neither done nor failed.

    A trial that failed, or whose loss diverged, is out of the running.
    """
    seed = result.cell.seeds[0]
    if any(run is None and (seed, rate) not in result.failures for rate, run in result.trials.items()):
        return None
    scores = {
        rate: run.record["metrics"]["best_dev"]
        for rate, run in result.trials.items()
        if run is not None and run.record["status"] == "finished"
    }
    return max(scores, key=scores.__getitem__) if scores else None


def withdraw(folder: Path) -> None:
    """Take away what was published of a run: first what others find it by."""
    for name in (RECORD, FAILURE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder)


def publish(run: Finished, folder: Path, selection: dict[str, Any] | None = None) -> None:
    """Copy what the report needs of a run (not its weights) to `folder`, with how its learning rate was chosen."""
    there = folder / run.folder.name
    record = run.record | ({} if selection is None else {"selection": selection})
    beside = (HISTORY, OUTCOMES) if "metrics" in record else ()
    files = {name: run.text(name) for name in beside}
    files[RECORD if beside else FAILURE] = json.dumps(record, indent=2) + "\n"  # last: who reads it finds the others
    with written(there, "or set results_dir"):
        there.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if not (there / name).exists() or (there / name).read_text(encoding="utf-8") != text:
                write_atomically(there / name, text)
        if RECORD in files:
            (there / FAILURE).unlink(missing_ok=True)
