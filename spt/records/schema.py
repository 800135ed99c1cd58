"""The files of a run's folder, and what its record holds."""

import math
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

from spt.errors import SptError, is_number, is_whole
from spt.files import parsed

SCHEMA = 3

RECORD, HISTORY, OUTCOMES, FAILURE = "record.json", "history.jsonl", "outcomes.json", "failure.json"

CONFIG, LOG, ADAPTER, CHECKPOINT = "config.yaml", "train.log", "adapter", "checkpoint.safetensors"


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
