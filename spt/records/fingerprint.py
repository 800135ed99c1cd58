"""What identifies a run: the fingerprint of its config, and its folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

NOT_IN_FINGERPRINT = ("output_dir", "logger", "force", "dry_run", "recipe", "runs_per_gpu")
LEFT_OUT_IF_NULL = ("missing_pooler",)  # of the model, so that runs of earlier versions keep their folders


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that can change a result: without output_dir and the like, and class paths."""
    kept = {key: value for key, value in config.items() if key not in NOT_IN_FINGERPRINT}
    model = {key: value for key, value in config["model"].items() if value is not None or key not in LEFT_OUT_IF_NULL}
    # Data workers and the processes' timeout change no result. Fingerprints of earlier runs have 0 workers.
    trainer = {key: value for key, value in config["trainer"].items() if key != "ddp_timeout"}
    if "dataloader_num_workers" in trainer:
        trainer["dataloader_num_workers"] = 0
    return without_targets(kept | {"model": model, "trainer": trainer})


def with_processes(config: dict[str, Any], processes: int) -> dict[str, Any]:
    """A config with the number of processes if there are several, whose batches are one batch: it changes a result."""
    return config | ({"processes": processes} if processes > 1 else {})


def without_targets(value: Any) -> Any:
    """A config without its `_target_` entries: a class may move, and what it computes stays the same."""
    if isinstance(value, dict):
        return {key: without_targets(item) for key, item in value.items() if key != "_target_"}
    return [without_targets(item) for item in value] if isinstance(value, list) else value


def fingerprint(config: dict[str, Any]) -> str:
    """A hash of everything in a resolved config that can change a result; data has a fingerprint of its own."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:12]


def folder_of(config: dict[str, Any]) -> Path:
    """The folder of the run that a resolved config describes."""
    names = (config[group]["name"] for group in ("task", "model", "method"))
    return Path(config["output_dir"]) / ".".join([*names, fingerprint(config)])
