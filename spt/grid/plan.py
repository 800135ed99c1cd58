"""What of a grid is finished, what is missing, and what the missing runs will cost."""

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from spt.errors import SptError
from spt.grid.cells import Composer, Job, cells
from spt.grid.local_sources import Places
from spt.grid.match_records import RECORDS, Finished, Records, Result, collect, publish, withdraw
from spt.hydra_overrides import quoted

PLAIN = re.compile(r"[A-Za-z./][\w./-]*")  # what Hydra takes as text without quotes


@dataclass
class Part:
    """What the plan says of one table and model: numbers of runs (`stale` are among those `to_run`; one that several
    tables share counts in the first), and of the training examples that those to run see, but for `unknown` of them."""

    table: str
    model: str
    tasks: list[str]
    done: int = 0
    stale: int = 0
    to_run: int = 0
    examples: float = 0
    unknown: int = 0


class Plan:
    """The grid of a config of `spt.reproduce`, beside the records in its output and results folders.

    Attributes:
        records: all that is recorded, as of the last `look`: in the output folder, then in the results folder.
        results: each cell with its own of them.
        stale: identities of the finished runs whose data is not the data at hand any more.
        tried: identities of the runs that were started. Each is, once.
        said: why runs failed that could leave no note, by identity.
    """

    def __init__(self, config: DictConfig):
        self.force = config.force
        self.output_dir, self.published = Path(config.output_dir), Path(config.results_dir) / RECORDS
        self.places = Places(config.folders, config.data_dir, config.model_dir)
        self.cells = cells(config)
        if not self.cells:
            raise SptError(f"tables {', '.join(config.tables)} have no part for profile {', '.join(config.profiles)}")
        self.composer = Composer()
        self.tried: set[str] = set()
        self.said: dict[str, str] = {}
        self.stale: set[str] = set()
        self.look()
        self.stale = {
            run.identity
            for result in self.results
            for run in result.finished
            if self.places.data_of(result.cell, self.composer) not in (None, run.record["data"]["fingerprint"])
        }

    def look(self) -> None:
        """Read the records anew."""
        self.records = Records(self.output_dir, self.published)
        self.results = collect(self.cells, self.records, self.composer)

    def pending(self) -> dict[str, Job]:
        """The runs that can start now, by identity; seeds wait until their learning rate is chosen."""
        jobs: list[Job] = []
        for result in self.results:
            trials = result.cell.trials
            undecided = bool(trials) and (result.learning_rate is None or bool(self._wanted(trials)))
            jobs += trials if undecided else _jobs(result)
        return self._wanted(jobs)

    def missing(self) -> dict[str, Job]:
        """All runs still to do, by identity; where no learning rate is chosen yet, as if it were the first."""
        return self._wanted(job for result in self.results for job in _jobs(result))

    def _wanted(self, jobs: Iterable[Job]) -> dict[str, Job]:
        found: dict[str, Job] = {}
        for job in jobs:
            found.setdefault(self.composer.identity(job), job)
        return {key: job for key, job in found.items() if key not in self.tried and not self._is_done(key)}

    def _is_done(self, key: str) -> bool:
        return key in self.records.finished and key not in self.stale and (key in self.tried or not self.force)

    def parts(self) -> list[Part]:
        """The plan by table and model."""
        parts: dict[tuple[str, str], Part] = {}
        counted: set[str] = set()
        for result in self.results:
            cell = result.cell
            part = parts.setdefault((cell.table, cell.model), Part(cell.table, cell.model, []))
            if cell.task not in part.tasks:
                part.tasks.append(cell.task)
            for job in _jobs(result):
                key = self.composer.identity(job)
                if key in counted:
                    continue
                counted.add(key)
                part.done += self._is_done(key)
                part.stale += key in self.stale
                part.to_run += not self._is_done(key)
                if not self._is_done(key):
                    seen = self.examples(job)
                    part.examples += seen or 0
                    part.unknown += seen is None
        return list(parts.values())

    def config(self, job: Job) -> dict[str, Any]:
        """The resolved config of a run here."""
        return self.places.config(job, self.composer) | {"output_dir": str(self.output_dir)}

    def command(self, key: str, job: Job) -> list[str]:
        """The overrides of `spt.train` that make a run here."""
        places = self.places.of(job.cell) | {"output_dir": str(self.output_dir)}
        where = [
            f"{name}={place}" if PLAIN.fullmatch(place) else quoted(f"{name}={place}", tuple(places))
            for name, place in places.items()
        ]
        return [*job.overrides, *where, *(["force=true"] if self.force or key in self.stale else [])]

    def examples(self, job: Job) -> float | None:
        """How many training examples a run sees, by the published size of its task; None where that is not known."""
        config = self.composer.config(job)
        size = config["task"]["sizes"].get("train")
        share = 1 - config["task"]["held_out"]
        return None if size is None else size * share * config["trainer"]["num_train_epochs"]

    def publish(self) -> None:
        """Put the finished runs' records, and why runs failed, where the report finds them.

        What was published of the same run from another folder goes.
        """
        chosen: dict[str, Result] = {}
        for result in self.results:
            for run in result.finished:
                if run.identity not in chosen or result.trials:
                    chosen[run.identity] = result
        runs = {key: (self.records.finished[key], result.selection) for key, result in chosen.items()}
        runs |= {key: (note, None) for key, note in self.records.failures.items() if key not in self.records.finished}
        before = Records(self.published)
        for key, (run, selection) in runs.items():
            publish(run, self.published, selection)
            for old in (before.finished.get(key), before.failures.get(key)):
                if old is not None and old.folder.name != run.folder.name:
                    withdraw(old.folder)

    def failures(self) -> list[str]:
        """The runs that were tried and left no record, or none but an earlier one, each with the reason."""
        jobs = {self.composer.identity(job): job for result in self.results for job in _jobs(result)}
        lines = []
        for key in sorted(self.tried & jobs.keys() - (self.records.finished.keys() - self.said.keys())):
            note = self.records.failures.get(key)
            reason = self.said.get(key) or (note.record["error"] if note else "it ended without a record")
            lines.append(f"{jobs[key].name}: {reason}")
        return lines


def _jobs(result: Result) -> list[Job]:
    """All runs of a cell; where its learning rate is not chosen yet, as if it were the first."""
    cell = result.cell
    rate = cell.learning_rates[0] if cell.learning_rates and result.learning_rate is None else result.learning_rate
    return [*cell.trials, *cell.jobs(rate)]


class Costs:
    """What runs cost, by the finished runs most like them: seconds an epoch of the same task, model and method."""

    def __init__(self, finished: Iterable[Finished]):
        self.seconds: dict[tuple[str, ...], list[float]] = {}
        self.machines: set[str] = set()
        for run in finished:
            record = run.record
            if record["status"] != "finished":
                continue
            names = (record["task"], record["model"], record["method"])
            for key in (names, names[:2]):
                self.seconds.setdefault(key, []).append(record["wall_seconds"] / record["epochs"])
            hardware = record["hardware"]
            self.machines.add(hardware["accelerator"] or f"{hardware['processor']}, threads: {hardware['threads']}")

    def of(self, config: dict[str, Any]) -> float | None:
        """The seconds that a run with this config will take; None where no run of its task and model was measured."""
        names = tuple(config[group]["name"] for group in ("task", "model", "method"))
        measured = self.seconds.get(names) or self.seconds.get(names[:2])
        return None if measured is None else statistics.fmean(measured) * config["trainer"]["num_train_epochs"]
