"""What a run leaves behind: a folder with its config, log, history, adapter and, once all is done, its record.

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

import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from spt import processes
from spt.code import git_state
from spt.errors import SptError, is_number, is_whole
from spt.files import parsed, remove_leftovers, replacing, write_atomically, written
from spt.lock import LOCK, locked
from spt.numerics import NUMERICS

if TYPE_CHECKING:
    from spt.checkpoint import Checkpoint

log = logging.getLogger(__name__)
SCHEMA = 3
RECORD, HISTORY, OUTCOMES, FAILURE = "record.json", "history.jsonl", "outcomes.json", "failure.json"
CONFIG, LOG, ADAPTER, CHECKPOINT = "config.yaml", "train.log", "adapter", "checkpoint.safetensors"
PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy"),
    *("huggingface_hub", "peft", "scikit-learn", "scipy", "seqeval", "hydra-core", "omegaconf"),
)


def _is_score(value: Any) -> bool:
    return value is None or (is_number(value) and math.isfinite(value))


# What a record must have to be read, and what of it: that of a finished run, or of one that failed.
EVERY: dict[str, type | tuple] = {
    **dict.fromkeys(("task", "model", "method", "fingerprint", "command"), str),
    **dict.fromkeys(("config", "git", "hardware", "versions"), dict),
    "seed": int,
}
FINISHED: dict[str, type | tuple] = {
    **dict.fromkeys(("status", "metric"), str),
    **dict.fromkeys(("metrics", "scores", "data", "trainable_by_group"), dict),
    "best_epoch": (int, NoneType),
    **dict.fromkeys(("epochs", "steps", "trainable_parameters", "peak_memory_bytes"), int),
    **{"wall_seconds": (int, float), "collapsed": bool, "warnings": list},
}
FAILED: dict[str, type | tuple] = {"error": str}
SHAPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("seed", "steps", "epochs", "processes", "resumed", "numerics"), lambda n: is_whole(n) and n >= 0),
    "status": lambda status: status in ("finished", "diverged"),
    "metrics": lambda found: {"best_dev", "last_dev"} <= found.keys() and all(map(_is_score, found.values())),
    "wall_seconds": _is_score,
    "warnings": lambda said: all(isinstance(words, str) for words in said),
    "git": lambda git: {"commit", "dirty"} <= git.keys(),
}
GROUPS = ("task", "model", "method", "trainer")  # of a config
NOT_IN_FINGERPRINT = ("output_dir", "logger", "force", "recipe", "runs_per_gpu")


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
        from spt.checkpoint import read_checkpoint

        origin()
        checkpoint = self._start()
        if processes.from_main(checkpoint is not None) and not processes.is_main():
            return read_checkpoint(self.folder / CHECKPOINT, self.fingerprint)
        return checkpoint

    @processes.main_only
    def _start(self) -> "Checkpoint | None":
        from spt.checkpoint import read_checkpoint

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


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that can change a result: without output_dir and the like, and class paths."""
    return without_targets({key: value for key, value in config.items() if key not in NOT_IN_FINGERPRINT})


def without_targets(value: Any) -> Any:
    """A config without its `_target_` entries: a class may move, and what it computes stays the same."""
    if isinstance(value, dict):
        return {key: without_targets(item) for key, item in value.items() if key != "_target_"}
    return [without_targets(item) for item in value] if isinstance(value, list) else value


def fingerprint(config: dict[str, Any]) -> str:
    """A hash of everything in a resolved config that can change a result. The data itself has its own."""
    kept = settings(config)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def folder_of(config: dict[str, Any]) -> Path:
    """The folder of the run that a resolved config describes."""
    names = (config[group]["name"] for group in ("task", "model", "method"))
    return Path(config["output_dir"]) / ".".join([*names, fingerprint(config)])


def read_record(path: Path) -> dict[str, Any]:
    """A record as it was written, one of an earlier schema brought to the present one.

    Raises:
        SptError: where it is damaged, or of a later schema.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        record = parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SptError(f"{path} is no readable record ({error}): delete it, and the run can be repeated") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if not is_whole(schema) or not 1 <= schema <= SCHEMA:
        raise SptError(
            f"{path} is no record of schema {SCHEMA} or before (it says {schema!r}): it is damaged, or of a later "
            "version of spt; delete it, and the run can be repeated"
        )
    needed = EVERY | (FAILED if path.name == FAILURE else FINISHED)
    wrong = [name for name, kind in needed.items() if name not in record or not isinstance(record[name], kind)]
    if not wrong:
        wrong = [name for name, is_right in SHAPES.items() if name in record and not is_right(record[name])]
    if not wrong and path.name == RECORD and record["status"] == "diverged" and not record["warnings"]:
        wrong = ["warnings"]
    if not wrong:
        wrong = [f"config.{group}" for group in GROUPS if not isinstance(record["config"].get(group), dict)]
    if wrong:
        raise SptError(
            f"{path} is a record without a proper {', '.join(wrong)}: delete it, and the run can be repeated"
        )
    return migrated(record)


def migrated(record: dict[str, Any]) -> dict[str, Any]:
    """A record of any schema, in the present one.

    Schema 2 added how many processes ran it and how often it was resumed, schema 3 the version of the numerics (0 for
    records made before versions were counted) in the place of digests of the code.
    """
    earlier = {"processes": 1, "resumed": 0, "numerics": 0}
    kept = {name: value for name, value in record.items() if name not in ("code", "packed")}
    return earlier | kept | {"schema": SCHEMA}


def read_records(output_dir: str | Path) -> list[dict[str, Any]]:
    """The records of all finished runs in a folder, in a stable order."""
    return [read_record(path) for path in sorted(Path(output_dir).glob(f"*/{RECORD}"))]


def versions() -> dict[str, str]:
    """Python's version, ours, and those of the packages a result depends on."""
    from spt import __version__

    return {"python": platform.python_version(), "spt": __version__} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


@cache
def origin() -> dict[str, Any]:
    """The commit and the numerics of the code that this process runs: as they were when first asked for."""
    return {"git": git_state(), "numerics": NUMERICS}


@cache
def hardware() -> dict[str, Any]:
    """The machine: system, processor, cores, threads and accelerator; as it was when this was first asked."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if cuda else None,
        "accelerators": torch.cuda.device_count() if cuda else 0,
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


class PeakMemory:
    """The most memory taken since this was made, on the accelerator where there is one, else by the process."""

    def __init__(self) -> None:
        import torch

        self.cuda = torch.cuda.is_available()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of resident memory

    def bytes(self) -> int:
        """The peak so far."""
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated()
        try:
            status = Path("/proc/self/status").read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        except OSError:
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else 1024 * peak
