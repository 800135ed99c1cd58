"""The resolved `spt.train` config of each run of a grid."""

import json
import re
from copy import deepcopy
from functools import cache, reduce
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spt.grid.cells import Job
from spt.paths import CONF
from spt.recipes import recipe_folders
from spt.records.comparable_settings import identity

GROUPS = ("task", "model", "method", "recipe")  # in the order in which conf/train.yaml merges them


class Composer:
    """Composes the config of each run once.

    Hydra takes about 60 ms per config and a grid has hundreds of cells, so the files of `GROUPS` are merged here once
    for each choice of them, in Hydra's order. Overrides that do more than choose one of these files or replace a value,
    and files with interpolations, are left to Hydra.
    """

    def __init__(self) -> None:
        self._configs: dict[tuple[str, ...], tuple[dict[str, Any], bool]] = {}
        self._identities: dict[tuple[tuple[str, ...], int, float | None], str] = {}
        self._merged: dict[tuple[str, ...], dict[str, Any]] = {}
        self._base: dict[str, Any] | None = None

    def config(self, job: Job) -> dict[str, Any]:
        """The resolved config of `spt.train` with the job's overrides."""
        overrides = job.cell.overrides
        if overrides not in self._configs:
            config = self._compose(overrides)
            self._configs[overrides] = config, "${" in json.dumps(config)
        config, has_interpolations = self._configs[overrides]
        rate = config["trainer"]["learning_rate"] if job.learning_rate is None else job.learning_rate
        config = config | {"seed": job.seed, "trainer": config["trainer"] | {"learning_rate": rate}}
        return OmegaConf.to_container(OmegaConf.create(config), resolve=True) if has_interpolations else config  # type: ignore[return-value]

    def identity(self, job: Job) -> str:
        """The identity of the job's config."""
        key = (job.cell.overrides, job.seed, job.learning_rate)
        if key not in self._identities:
            self._identities[key] = identity(self.config(job))
        return self._identities[key]

    def _compose(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        """The config with these overrides, with its interpolations, which may name seed or learning rate."""
        try:
            return self._changed([_parse(override) for override in overrides])
        except (LookupError, OSError, TypeError, OmegaConfBaseException):
            return _as_dict(compose("train", list(overrides)))  # also for Hydra's message where an override is wrong

    def _changed(self, overrides: list[Override]) -> dict[str, Any]:
        """The config that Hydra would compose.

        Raises:
            LookupError, OSError, OmegaConfBaseException: if only Hydra can compose it, or if it has an error.
        """
        choices = {override.key_or_group: str(override.value()) for override in overrides if _is_group(override)}
        recipe = choices.pop("recipe", f"{choices['method']}/{choices['task']}/{choices['model']}")
        config = deepcopy(self._merge(*(choices[group] for group in GROUPS if group != "recipe"), recipe))
        for override in overrides:
            if not _is_group(override):
                *path, name = override.key_or_group.split(".")
                group = reduce(dict.__getitem__, path, config)
                if isinstance(group[name], dict):
                    raise LookupError(f"{override.key_or_group} is a group of settings")
                group[name] = override.value()
        return config

    def _merge(self, *choices: str) -> dict[str, Any]:
        """The config with a choice for each of `GROUPS`."""
        if choices not in self._merged:
            if self._base is None:
                self._base = _as_dict(compose("train", ["~task", "~model", "~method", "recipe=none"]))
            merged = self._base
            for group, choice in zip(GROUPS, choices, strict=True):
                merged = _deep_merge(merged, _group_file(group, choice))
            if "${" in json.dumps(merged):
                raise LookupError("interpolations")
            self._merged[choices] = merged
        return self._merged[choices]


@cache
def _parse(override: str) -> Override:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    is_plain = parsed.type is OverrideType.CHANGE and parsed.package is None and not parsed.is_sweep_override()
    is_plain = is_plain and "${" not in override
    if not is_plain or ((CONF / parsed.key_or_group).is_dir() and parsed.key_or_group not in GROUPS):
        raise LookupError(f"{override} does more than choose a file of {GROUPS} or replace a value")
    return parsed


def _is_group(override: Override) -> bool:
    return override.key_or_group in GROUPS


def _as_dict(config: Any) -> dict[str, Any]:
    assert isinstance(config, DictConfig)
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def _deep_merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What `OmegaConf.merge` makes of plain dictionaries, in a tenth of its time."""
    merged = first | second
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            merged[key] = _deep_merge(first[key], second[key])
    return merged


@cache
def _group_file(group: str, name: str) -> dict[str, Any]:
    """A file of a config group, as part of the whole config.

    Raises:
        LookupError: if it has a defaults list of its own, or a package other than its group's name or _global_.
        OSError: if it cannot be read: Hydra may find it in another folder of its search path. A recipe is optional.
    """
    path = CONF / group / f"{name}.yaml"
    if group == "recipe" and not any((folder / f"{name}.yaml").exists() for folder in recipe_folders()):
        return {}
    text = path.read_text(encoding="utf-8")
    content = _as_dict(OmegaConf.create(text))
    package = re.match(r"#\s*@package\s+(\S+)", text)
    if "defaults" in content or (package is not None and package[1] not in (group, "_global_")):
        raise LookupError(f"{group}={name} is composed of other files")
    return content if package is not None and package[1] == "_global_" else {group: content}
