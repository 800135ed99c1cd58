"""What a run leaves behind: a folder with its config, log, history, adapter and, once all is done, its record.

from typing import TYPE_CHECKING
<output_dir>/<task>.<model>.<method>.<fingerprint>/
    config.yaml     the resolved config
    train.log       what the run said
    history.jsonl   one line an epoch
    adapter/        what was trained, at the best dev epoch
    outcomes.json   how each example of each scored split came out, for paired tests
    record.json     written last, and whole: a folder without it is an unfinished run
    failure.json    in its place, where a run of a grid failed: why
    checkpoint.safetensors  where an unfinished run goes on, replaced at once after every epoch
    lock.json       whose process is at work on it

An epoch is over once its checkpoint is there: its history line is written before, its adapter (where it is the best)
after, and the checkpoint holds what makes both again.
"""

import json
import logging
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from spt import distributed as processes
from spt.errors import SptError, is_whole
from spt.files import remove_leftovers, replacing, write_atomically, written
from spt.records.folder_lock import LOCK, locked
from spt.records.identity import fingerprint, folder_of
from spt.records.provenance import hardware, origin, versions
from spt.records.schema import ADAPTER, CHECKPOINT, CONFIG, FAILURE, HISTORY, LOG, OUTCOMES, RECORD, SCHEMA, read_record

if TYPE_CHECKING:
    from spt.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class Run:
    """The folder of one run. Same config, same folder."""

    def __init__(self, config: DictConfig):
        self.config: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        for key, value in (
            ("output_dir", self.config["output_dir"]),
            ("model.name_or_path", config.model.name_or_path),
        ):
            if not isinstance(value, str) or not value:
                raise SptError(f"{key} must be a path or a name, not {value!r}")
        for group in ("task", "model", "method"):
            name = self.config[group]["name"]
            if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
                raise SptError(
                    f"{group}.name is part of a folder's name: letters, digits, '_', and further on '-' and '.', "
                    f"not {name!r}" + ("" if isinstance(name, str) else f" (a number as text: {group}.name='\"...\"')")
                )
        seed = self.config["seed"]
        if not is_whole(seed) or not 0 <= seed < 2**32:
            raise SptError(f"seed must be a whole number from 0 to 2^32 - 1, not {seed!r}")
        if not isinstance(self.config["force"], bool):
            raise SptError(f"force must be true or false, not {self.config['force']!r}")
        several = {"processes": processes.count()} if processes.count() > 1 else {}  # whose batches are one
        self.fingerprint = fingerprint(self.config | several)
        self.folder = folder_of(self.config | several)

    @property
    def command(self) -> str:
        """The command line that makes this run, whether it was started by one or as a job of a sweep."""
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        return shlex.join([*processes.launcher(), "-m", "spt.train", *overrides])

    @property
    def backbone(self) -> dict[str, Any]:
        """The part of the config that says which encoder to load, and how."""
        return {key: value for key, value in self.config["model"].items() if key not in ("name", "pooling")}

    @property
    def record(self) -> dict[str, Any] | None:
        """The record of the finished run, None where it is not finished.

        Raises:
            SptError: where it is damaged, or another run's.
        """
        path = self.folder / RECORD
        if not path.exists():
            return None
        record = read_record(path)
        if record["fingerprint"] != self.fingerprint:
            raise SptError(
                f"{path} is of another run, with the fingerprint {record['fingerprint']}: put it where it belongs, or "
                "delete it"
            )
        return record

    @property
    def adapter(self) -> Path:
        """Where the adapter goes."""
        return self.folder / ADAPTER

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other processes out of it until this one is done with it or gone.

        Raises:
            Busy: where one is at work in it.
            SptError: where it cannot be written.
        """
        if not processes.is_main():
            yield
            return
        for name in (RECORD, HISTORY, OUTCOMES, FAILURE, CONFIG, LOG, CHECKPOINT, LOCK, ADAPTER):
            path = self.folder / name
            if path.exists() and not (path.is_dir() if name == ADAPTER else path.is_file()):
                raise SptError(f"{path} is in the way: it is not what a run leaves there; move it elsewhere")
        with ExitStack() as stack:
            with self._writable():
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.folder))
            yield

    def start(self) -> "Checkpoint | None":
        """Make the folder ready. What an earlier try left stays, until it is gone on from, or `clear`ed.

        Returns:
            Where the run goes on; None where it starts anew.

        Raises:
            SptError: where the folder cannot be written.
        """
        from spt.training.checkpoint import read_checkpoint

        origin()
        checkpoint = self._start()
        if processes.from_main(checkpoint is not None) and not processes.is_main():
            return read_checkpoint(self.folder / CHECKPOINT, self.fingerprint)
        return checkpoint

    @processes.main_only
    def _start(self) -> "Checkpoint | None":
        from spt.training.checkpoint import read_checkpoint

        path = self.folder / CHECKPOINT
        with self._writable():
            self.folder.mkdir(parents=True, exist_ok=True)
            anew = self.config["force"] or not path.exists()
            if anew:
                (self.folder / LOG).write_text("")
            remove_leftovers(self.folder)
            (self.folder / FAILURE).unlink(missing_ok=True)
            write_atomically(self.folder / CONFIG, OmegaConf.to_yaml(self.config))
            if anew:
                return None
            try:
                checkpoint = read_checkpoint(path, self.fingerprint)
            except SptError as error:
                log.warning("%s: the run starts anew", error)
                return None
            lines = [json.dumps(row) + "\n" for row in checkpoint.history]
            write_atomically(self.folder / HISTORY, "".join(lines))
            return checkpoint

    @processes.main_only
    def clear(self) -> None:
        """Remove the results of an earlier try."""
        for name in (CHECKPOINT, RECORD, HISTORY, OUTCOMES):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.adapter, ignore_errors=True)

    @processes.main_only
    def append(self, row: dict[str, Any]) -> None:
        """Add a line to the history."""
        with written(self.folder / HISTORY), (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @processes.main_only
    def keep(self, checkpoint: "Checkpoint") -> None:
        """Put a checkpoint in the place of the one before."""
        path = self.folder / CHECKPOINT
        with written(path), replacing(path) as partial:
            checkpoint.save(partial)

    @processes.main_only
    def keep_outcomes(self, outcomes: dict[str, list | None]) -> None:
        """Write how each example came out, by the names of the record's metrics."""
        with written(self.folder / OUTCOMES):
            write_atomically(self.folder / OUTCOMES, json.dumps(outcomes, separators=(",", ":")) + "\n")

    def finish(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write the record: the results, and all that is needed to know where they came from."""
        record = self._of(results)
        if processes.is_main():
            with written(self.folder / RECORD):
                write_atomically(self.folder / RECORD, json.dumps(record, indent=2) + "\n")
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return record

    def fail(self, error: str) -> None:
        """Leave a note of why there is no record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / FAILURE, json.dumps(self._of({"error": error}), indent=2) + "\n")

    def _of(self, results: dict[str, Any]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            **{group: self.config[group]["name"] for group in ("task", "model", "method")},
            "seed": self.config["seed"],
            **results,
            "recipe": self.config["recipe"],
            "command": self.command,
            "config": self.config,
            "fingerprint": self.fingerprint,
            "versions": versions(),
            **origin(),
            "processes": processes.count(),
            "hardware": hardware(),
        }

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SptError(
                f"cannot write to {error.filename or self.folder}: {error.strerror}. "
                "Set output_dir to a folder that can be written"
            ) from error
