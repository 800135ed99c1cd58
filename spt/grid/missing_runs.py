"""Which runs of a grid are finished, and which are missing."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pandas import DataFrame

from spt.grid.cells import Job, cells
from spt.grid.compose_configs import Composer
from spt.grid.copy_records import publish, withdraw
from spt.grid.local_data import DataFingerprint, LocalSources
from spt.grid.match_records import RECORDS, Finished, Records, Result, collect
from spt.path_overrides import assignment


class Plan:
    """The grid of a config of `spt.reproduce`, with the records in its output and results folders.

    Args:
        config: of `spt.reproduce`.
        fingerprint: computes the fingerprint of a task's data.

    Attributes:
        records: all records as of the last `read_records`, first those in the output folder, then the published ones.
        results: each cell with its records.
        stale: identities of the finished runs whose data differs from the present data, as of the same time.
        tried: identities of the runs that were started. Each is started once.
        errors: why runs failed that could not write a failure note, by identity.
    """

    def __init__(self, config: DictConfig, fingerprint: DataFingerprint):
        self.force = config.force
        self.output_dir, self.published = Path(config.output_dir), Path(config.results_dir) / RECORDS
        self.sources = LocalSources(config.folders, fingerprint, config.data_dir, config.model_dir)
        self.cells = cells(config)
        self.composer = Composer()
        self.tried: set[str] = set()
        self.errors: dict[str, str] = {}
        self.read_records()

    def read_records(self) -> None:
        """Read the records again, and match them to the cells."""
        self.records = Records(self.output_dir, self.published)
        self.results = collect(self.cells, self.records, self.composer)
        self.stale = {
            run.identity
            for result in self.results
            for run in result.finished
            if self.sources.fingerprint_of(Job(result.cell, run.record["seed"], None), self.composer)
            not in (None, run.record["data"]["fingerprint"])
        }

    def pending(self) -> dict[str, Job]:
        """The runs that can start now, by identity. Seeds wait until their learning rate is chosen."""
        jobs: list[Job] = []
        for result in self.results:
            trials = result.cell.trials
            undecided = bool(trials) and (result.learning_rate is None or bool(self._wanted(trials)))
            jobs += trials if undecided else _jobs(result)
        return self._wanted(jobs)

    def missing(self) -> dict[str, Job]:
        """All runs still to do, by identity. A learning rate that is not chosen yet is assumed to be the first."""
        return self._wanted(job for result in self.results for job in _jobs(result))

    def _planned(self) -> dict[str, Job]:
        return {self.composer.identity(job): job for result in self.results for job in _jobs(result)}

    def _wanted(self, jobs: Iterable[Job]) -> dict[str, Job]:
        by_identity: dict[str, Job] = {}
        for job in jobs:
            by_identity.setdefault(self.composer.identity(job), job)
        return {key: job for key, job in by_identity.items() if key not in self.tried and not self._is_done(key)}

    def _is_done(self, key: str) -> bool:
        return key in self.records.finished and key not in self.stale and (key in self.tried or not self.force)

    def runs_frame(self) -> DataFrame:
        """A row per run, with the columns `table`, `model` and `task` and its counts as numbers.

        `done`, `stale` (finished with other data) and `to_run` are 0 or 1, all 0 where an earlier row has the same run.
        """
        rows, counted = [], set[str]()
        for result in self.results:
            for job in _jobs(result):
                key = self.composer.identity(job)
                is_first, is_done = key not in counted, self._is_done(key)
                counted.add(key)
                names = {"table": result.cell.table, "model": result.cell.model, "task": result.cell.task}
                counts = {"done": is_done, "stale": key in self.stale, "to_run": not is_done}
                rows.append(names | {name: is_first and value for name, value in counts.items()})
        return DataFrame(rows)

    def config(self, job: Job) -> dict[str, Any]:
        """The resolved config of a run on this machine."""
        return self.sources.config(job, self.composer) | {"output_dir": str(self.output_dir)}

    def command(self, key: str, job: Job) -> list[str]:
        """The arguments of `spt.train` that make a run on this machine.

        A stale record that is only published needs no force=true, so that an interrupted repeat resumes.
        """
        settings = self.sources.settings(job.cell) | {"output_dir": str(self.output_dir)}
        folders = [assignment(name, folder) for name, folder in settings.items()]
        is_in_the_way = key in self.stale and self.is_here(self.records.finished[key])
        return [*job.overrides, *folders, *(["force=true"] if self.force or is_in_the_way else [])]

    def is_here(self, run: Finished) -> bool:
        """Whether a record lies in the output folder, and is not a published copy."""
        return run.folder.parent == self.output_dir

    def publish(self) -> None:
        """Copy the records of the cells' finished runs, and the notes of their failed ones, to results_dir.

        A copy of the same run that was published from another folder is deleted.
        """
        chosen: dict[str, Result] = {}
        for result in self.results:
            for run in result.finished:
                if run.identity not in chosen or result.trials:
                    chosen[run.identity] = result
        runs = {key: (self.records.finished[key], result.selection) for key, result in chosen.items()}
        failed = (self._planned().keys() & self.records.failures.keys()) - self.records.finished.keys()
        runs |= {key: (self.records.failures[key], None) for key in sorted(failed)}
        before = Records(self.published)
        for key, (run, selection) in runs.items():
            publish(run, self.published, selection)
            for old in (before.finished.get(key), before.failures.get(key)):
                if old is not None and old.folder.name != run.folder.name:
                    withdraw(old.folder)

    def failures(self) -> list[str]:
        """The runs that were started and failed, each with the reason."""
        jobs = self._planned()
        lines = []
        for key in sorted(self.tried & jobs.keys()):
            note = self.records.failures.get(key)
            if note is not None and not self.is_here(note):
                note = None  # of an earlier attempt
            if key in self.records.finished and key not in self.errors and note is None:
                continue
            reason = self.errors.get(key) or (note.record["error"] if note else "it ended without a record")
            lines.append(f"{jobs[key].name}: {reason}")
        return lines


def _jobs(result: Result) -> list[Job]:
    """All runs of a cell. A learning rate that is not chosen yet is assumed to be the first."""
    cell = result.cell
    rate = cell.learning_rates[0] if cell.learning_rates and result.learning_rate is None else result.learning_rate
    return [*cell.trials, *cell.jobs(rate)]
