"""The folder that a run leaves behind.

<output_dir>/<task>.<model>.<method>.<fingerprint>/
    config.yaml     the resolved config
    train.log       what the run printed, with times
    history.jsonl   a row per epoch; with prefixes also row 0, of their initialisation
    adapter/        the trained parameters, of the best dev epoch
    outcomes.json   how each example of each scored split came out, for paired tests
    record.json     written last and at once: a folder without it is an unfinished run
    failure.json    in its place, where a run of a grid failed: why
    checkpoint.safetensors  where an unfinished run resumes, replaced after every epoch
    lock.json       which process is training the run

An epoch is complete once its checkpoint is written: its history row is written before, its adapter (where it is the
best epoch) after, and the checkpoint holds what is needed to write both again.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spt import distributed
from spt.distributed import main_only
from spt.errors import SptError, check_flag, is_whole
from spt.files import remove_leftovers, replacing, write_atomically, written
from spt.path_overrides import escaped, own_config_dir, plain
from spt.records.fingerprint import fingerprint, folder_of, with_processes
from spt.records.folder_lock import LOCK, locked
from spt.records.provenance import hardware, origin, versions
from spt.records.schema import ADAPTER, CHECKPOINT, CONFIG, FAILURE, HISTORY, LOG, OUTCOMES, RECORD, SCHEMA, read_record

ELSEWHERE = "or set output_dir to a folder that can be written"

FROM_CONFIG = "import sys, spt, omegaconf; spt.train(omegaconf.OmegaConf.load(sys.argv[1]))"


class RunFolder:
    """The folder of the run that a config describes: the same config has the same folder.

    Args:
        config: of `spt.train`.
        overrides: those that `config` was composed from, in Hydra's syntax; None if the caller composed it.

    Attributes:
        config: resolved.
        fingerprint: a hash of everything in the config that can change a result.
        folder: where the run's files are.

    Raises:
        SptError: where the config has no usable names, seed or output folder.
    """

    def __init__(self, config: DictConfig, overrides: Sequence[str] | None = None):
        self.overrides = overrides
        self.config: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
        _check(self.config)
        config_of_all = with_processes(self.config, distributed.count())
        self.fingerprint = fingerprint(config_of_all)
        self.folder = folder_of(config_of_all)

    @property
    def command(self) -> str:
        """The command line that makes this run, whether it was started by itself or as a job of a sweep."""
        if self.overrides is None:
            return shlex.join([*distributed.launcher(), "-c", FROM_CONFIG, str(self.folder / CONFIG)])
        return shlex.join([*distributed.launcher(), "-m", "spt.train", *own_config_dir(), *map(plain, self.overrides)])

    @property
    def adapter(self) -> Path:
        """The folder of the adapter."""
        return self.folder / ADAPTER

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Create the folder and hold its lock.

        Raises:
            Busy: where another process holds it, unless `wait`.
            SptError: where the folder cannot be written, or holds something else under the name of a run's file.
        """
        if not distributed.is_main():
            yield
            return
        for name in (RECORD, HISTORY, OUTCOMES, FAILURE, CONFIG, LOG, CHECKPOINT, LOCK, ADAPTER):
            path = self.folder / name
            if path.exists() and not (path.is_dir() if name == ADAPTER else path.is_file()):
                raise SptError(f"{path} is in the way: it is not what a run leaves there; move it elsewhere")
        with ExitStack() as stack:
            with written(self.folder, ELSEWHERE):
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.folder, wait))
            yield

    @main_only
    def finished(self) -> dict[str, Any] | None:
        """The record of the run where it is finished; None where it is not, or is to be repeated (`force=true`).

        Raises:
            SptError: where the record is damaged, or another run's.
        """
        path = self.folder / RECORD
        if self.config["force"] or not path.exists():
            return None
        record = read_record(path)
        if record["fingerprint"] != self.fingerprint:
            raise SptError(
                f"{path} is of another run, with the fingerprint {record['fingerprint']}: move it to the other run's "
                "folder, or delete it"
            )
        return record

    @main_only
    def start(self) -> None:
        """Write the config, and start the log anew unless the run may resume from a checkpoint.

        Results of an earlier run stay until `clear`: the new one may turn out to be impossible.

        Raises:
            SptError: where the folder cannot be written.
        """
        with written(self.folder, ELSEWHERE):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.config["force"] or not (self.folder / CHECKPOINT).exists():
                (self.folder / LOG).write_bytes(b"")
            for folder in (self.folder, self.adapter):
                remove_leftovers(folder)
            (self.folder / FAILURE).unlink(missing_ok=True)
            write_atomically(self.folder / CONFIG, OmegaConf.to_yaml(escaped(self.config)))

    @main_only
    def clear(self) -> None:
        """Remove the results of an earlier run."""
        for name in (CHECKPOINT, RECORD, HISTORY, OUTCOMES):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.adapter, ignore_errors=True)

    @main_only
    def append_history(self, row: dict[str, Any]) -> None:
        """Add an epoch's row to the history."""
        with written(self.folder / HISTORY), (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @main_only
    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Write the whole history."""
        with written(self.folder / HISTORY):
            write_atomically(self.folder / HISTORY, "".join(json.dumps(row) + "\n" for row in rows))

    @contextmanager
    def writing_checkpoint(self) -> Iterator[Path]:
        """The path to write a checkpoint to; it replaces the one before once it is complete."""
        path = self.folder / CHECKPOINT
        with written(path), replacing(path) as partial:
            yield partial

    @main_only
    def write_outcomes(self, outcomes: dict[str, list | None]) -> None:
        """Write the outcome of each example, by the names of the record's metrics."""
        with written(self.folder / OUTCOMES):
            write_atomically(self.folder / OUTCOMES, json.dumps(outcomes, separators=(",", ":")) + "\n")

    def write_record(self, results: dict[str, Any]) -> dict[str, Any]:
        """Write and return the record: the results, with all that is needed to know where they came from."""
        record = self._record(results)
        if distributed.is_main():
            with written(self.folder / RECORD):
                write_atomically(self.folder / RECORD, json.dumps(record, indent=2) + "\n")
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return record

    def write_failure(self, error: str) -> None:
        """Write why the run has no record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / FAILURE, json.dumps(self._record({"error": error}), indent=2) + "\n")

    def _record(self, results: dict[str, Any]) -> dict[str, Any]:
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
            "processes": distributed.count(),
            "hardware": hardware(self.config["trainer"].get("use_cpu") is True),
        }


def _check(config: dict[str, Any]) -> None:
    """Check the settings that a run's folder is named by."""
    for key, value in (("output_dir", config["output_dir"]), ("model.name_or_path", config["model"]["name_or_path"])):
        if not isinstance(value, str) or not value:
            raise SptError(f"{key} must be a path or a name, not {value!r}")
    for group in ("task", "model", "method"):
        name = config[group].get("name")
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
            hint = "" if isinstance(name, str) else f" (a number as text: {group}.name='\"...\"')"
            raise SptError(
                f"{group}.name is part of a folder's name: letters, digits, '_', and after the first also '-' and '.', "
                f"not {name!r}{hint}"
            )
    seed = config["seed"]
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise SptError(f"seed must be a whole number from 0 to 2^32 - 1, not {seed!r}")
    for name in ("force", "dry_run"):
        check_flag(name, config.get(name, False))
