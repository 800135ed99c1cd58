"""The settings by which runs are compared: those that change a result, wherever data and weights were stored."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from omegaconf import OmegaConf

from spt.errors import is_whole
from spt.paths import CONF
from spt.records.fingerprint import settings

# The location of data and weights does not change a result; their hashes are in the record.
LOCATIONS = {"task": ("data_dir", "hub"), "model": ("name_or_path", "revision")}


def identity(config: dict[str, Any]) -> str:
    """A hash of a resolved config of `spt.train` that does not depend on the location of data and weights."""
    return hashlib.sha256(json.dumps(comparable(config), sort_keys=True).encode()).hexdigest()


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a resolved config that change a result, wherever data and weights are stored.

    A setting that is null counts as absent, so that one that is new changes no identity before it is used.
    """
    kept = settings(config)
    for group, locations in LOCATIONS.items():
        kept[group] = {key: value for key, value in kept[group].items() if key not in locations}
    return normalised(kept | {"model": kept["model"] | {"other_weights": other_weights(config["model"])}})


def other_weights(model: Mapping[str, Any]) -> str | None:
    """The name of a model's folder or repository; None if it is the one in conf/model, or the model's own name."""
    name = _last_name(model["name_or_path"])
    path = CONF / "model" / f"{model['name']}.yaml"
    return name if name not in (_name_of_weights(path), model["name"]) else None


@cache
def _name_of_weights(path: Path) -> str | None:
    """The name of the weights that a file of conf/model names; None if there is no such file."""
    return _last_name(OmegaConf.load(path).name_or_path) if path.is_file() else None


def _last_name(weights: str) -> str:
    """The name of a repository or folder; of a snapshot in the hub's cache, that of its repository."""
    match PurePath(weights).parts:
        case [*_, repository, "snapshots", _] if repository.startswith("models--"):
            return repository.rpartition("--")[2]
    return PurePath(weights).name


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of nested groups by their dotted names."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def normalised(value: Any) -> Any:
    """A setting without nulls, and with whole numbers as floats: `method.sl_weight=0` equals a default of 0.0."""
    if isinstance(value, dict):
        return {key: normalised(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [normalised(item) for item in value]
    return float(value) if is_whole(value) else value


def as_text(value: Any) -> str:
    """A setting's value as text, the same for a whole number and its float."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted name, or the name itself where others have the same last part."""
    distinct = dict.fromkeys(names)
    counts = Counter(name.rpartition(".")[2] for name in distinct)
    return {name: last if counts[last := name.rpartition(".")[2]] == 1 else name for name in distinct}


def numbers_first(text: str) -> tuple[float, str]:
    """A key that sorts the texts of numbers by their value, before other texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
