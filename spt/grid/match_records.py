"""Which records belong to which cell of a grid, and which runs are missing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from spt.errors import SptError
from spt.files import parsed
from spt.grid.cells import Cell, Job
from spt.grid.compose_configs import Composer
from spt.insight.result import Insight
from spt.paths import CONF
from spt.records.comparable_settings import comparable, flat, identity
from spt.records.fingerprint import with_processes
from spt.records.insight_summary import INSIGHT, InsightSummary
from spt.records.schema import ADAPTER, FAILURE, HISTORY, OUTCOMES, RECORD, problems, read_record

RECORDS = "records"  # the folder of the published records, inside results_dir


@dataclass(frozen=True)
class Finished:
    """The record of a finished run and the files beside it, or the failure note of a failed run."""

    record: dict[str, Any]
    folder: Path

    @cached_property
    def identity(self) -> str:
        """A hash of what was run, wherever its data and weights were stored."""
        return identity(with_processes(self.record["config"], self.record["processes"]))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that were run and can change a result, by dotted names."""
        return flat(comparable(with_processes(self.record["config"], self.record["processes"])))

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch; of a run with prefixes also row 0, their similarity at initialisation."""
        return self._read(HISTORY)[1]

    @cached_property
    def outcomes(self) -> dict[str, list | None]:
        """The outcome of each example, by the names of the record's metrics; see `spt.tasks.task.Task.outcomes`."""
        (outcomes,) = self._read(OUTCOMES)[1]
        return outcomes

    @cached_property
    def insight(self) -> InsightSummary | None:
        """What spt.inspect found in the run's adapter; None if it has not inspected this adapter.

        Raises:
            SptError: if what it found cannot be read.
        """
        path = self.folder / INSIGHT
        try:
            if path.is_file():  # a published run
                return InsightSummary.model_validate_json(path.read_text(encoding="utf-8"))
            path, description = self.folder / "insight" / INSIGHT, self.folder / ADAPTER / "adapter.json"
            if not path.is_file() or not description.is_file():
                return None
            insight, adapter = Insight.from_json(path.read_text(encoding="utf-8")), parsed(description.read_bytes())
        except (OSError, ValueError) as error:
            raise SptError(f"{path} cannot be read ({problems(error)}): delete it, or inspect the run again") from error
        return insight.summary() if insight.adapter_sha256 == adapter.get("sha256") else None

    def text(self, name: str) -> str:
        """The content of a JSON file beside the record.

        Raises:
            SptError: if the file is missing or damaged.
        """
        return self._read(name)[0]

    def _read(self, name: str) -> tuple[str, list[Any]]:
        """The content of a JSON file beside the record, as text and as the value of each line."""
        path = self.folder / name
        try:
            text = path.read_text(encoding="utf-8")
            return text, [parsed(line) for line in text.splitlines()]
        except (OSError, ValueError) as error:
            raise SptError(
                f"{path} cannot be read ({error}). If its run is being repeated, wait; else delete the folder and "
                "repeat the run"
            ) from error


class Records:
    """All records and failure notes in some folders of runs, by the identity of their configs.

    If several folders have a record of the same identity, the first folder's counts.

    Attributes:
        finished: the finished runs.
        failures: the notes of failed runs.
        seen: the pairs of task and model that have any.
    """

    def __init__(self, *folders: Path):
        self.finished: dict[str, Finished] = {}
        self.failures: dict[str, Finished] = {}
        for folder in folders:
            for runs, name in ((self.finished, RECORD), (self.failures, FAILURE)):
                for run in _read(folder, name):
                    runs.setdefault(run.identity, run)
        every = (*self.finished.values(), *self.failures.values())
        self.seen = {(run.record["task"], run.record["model"]) for run in every}


def _read(folder: Path, name: str) -> Iterator[Finished]:
    for path in sorted(folder.glob(f"*/{name}")):
        try:
            record = read_record(path)
        except SptError:
            if path.exists():
                raise
            continue  # another process has just removed it
        yield Finished(record, path.parent)


@dataclass
class Result:
    """A cell and its runs.

    Attributes:
        learning_rate: the chosen one; None if the config's own is used, or if not all trials are done.
        trials: the run of each candidate learning rate, None if it is missing.
        runs: the run of each seed with the chosen learning rate, None if it is missing.
        failures: error messages of failed runs, by seed and learning rate.
        unfinished: how far runs without a record are, by seed and learning rate.
        usual_data: the fingerprint of the data that most runs of the task and profile used, or, if the report is
            given data_dir, of the data in it.
        task: the settings of the task, if it is not one of `conf/task`.
    """

    cell: Cell
    learning_rate: float | None = None
    trials: dict[float, Finished | None] = field(default_factory=dict)
    runs: dict[int, Finished | None] = field(default_factory=dict)
    failures: dict[tuple[int, float | None], str] = field(default_factory=dict)
    unfinished: dict[tuple[int, float | None], str] = field(default_factory=dict)
    usual_data: str | None = None
    task: dict[str, Any] | None = None

    @property
    def done(self) -> dict[int, Finished]:
        """The finished runs of the cell, by seed."""
        return {seed: run for seed, run in self.runs.items() if run is not None}

    @property
    def finished(self) -> list[Finished]:
        """All finished runs, trials of learning rates first."""
        return [run for run in (*self.trials.values(), *self.runs.values()) if run is not None]

    @property
    def is_decided(self) -> bool:
        """Whether the learning rate of the cell's runs is known."""
        return self.learning_rate is not None or not self.trials

    @property
    def by_job(self) -> dict[tuple[int, float | None], Finished | None]:
        """The run of each seed and learning rate, first those with the chosen one; None if it is missing."""
        runs: dict[tuple[int, float | None], Finished | None] = {}
        if self.is_decided:
            runs = {(seed, self.learning_rate): run for seed, run in self.runs.items()}
        return runs | {(self.cell.seeds[0], rate): run for rate, run in self.trials.items()}

    @property
    def state(self) -> str:
        """One of `done`, `partly` (some runs are missing), `failed`, `unfinished` and `not run`."""
        if self.runs and all(run is not None for run in self.runs.values()):
            return "done"
        if self.done:
            return "partly"
        if self.failures:
            return "failed"
        return "unfinished" if self.unfinished else "not run"

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
    """Each cell with its records."""
    results = [_collect(cell, records, composer) for cell in cells]
    mark_usual_data(results)
    return results


def mark_usual_data(results: Sequence[Result]) -> None:
    """Set the `usual_data` of all results."""
    data: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        fingerprints = [run.record["data"].get("fingerprint") for run in result.done.values()]
        data.setdefault((result.cell.profile, result.cell.task), Counter()).update(fingerprints)
    for result in results:
        usual = data[result.cell.profile, result.cell.task].most_common(1)
        result.usual_data = usual[0][0] if usual else None


def _collect(cell: Cell, records: Records, composer: Composer) -> Result:
    result = Result(cell, runs=dict.fromkeys(cell.seeds), trials=dict.fromkeys(cell.learning_rates))
    for group, chosen in (("task", cell.task), ("model", cell.model)):
        if not (CONF / group / f"{chosen}.yaml").is_file():  # of a config folder of the user's
            settings = composer.config(Job(cell, cell.seeds[0], None))[group]
            if (name := settings.get("name")) != chosen:  # records have this name, and would not be found
                raise SptError(f"{group}/{chosen}.yaml: for a table its name must be {chosen!r}, not {name!r}")
            result.task = settings if group == "task" else result.task
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
    if result.is_decided:
        result.runs = {job.seed: find(job) for job in cell.jobs(result.learning_rate)}
    return result


def unused_runs(results: Iterable[Result], records: Records) -> list[str]:
    """The folders of finished runs that no cell uses."""
    used = {run.identity for result in results for run in result.finished}
    return sorted(run.folder.name for key, run in records.finished.items() if key not in used)


def choose(result: Result) -> float | None:
    """The learning rate with the best dev score, the first of equals; None while a trial is neither done nor failed.

    A trial that failed or diverged is not chosen.
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
