"""The grid behind the tables: which runs make a number, what each of them is called on the command line, and which
records are theirs. Tables and profiles are in `conf/table` and `conf/profile`.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError, is_whole, nearest
from spt.recipes import recipes
from spt.records.identity import settings

# Where data and weights lie does not change a result; their hashes are in the record.
PLACES = {"task": ("data_dir", "hub"), "model": ("name_or_path", "revision")}

ROW_KEYS = {"method", "recipe", "set"}


@dataclass(frozen=True)
class Cell:
    """One number of a table: a row on a task with a model, over seeds.

    Attributes:
        table, profile, task, model, row: names of conf/table, conf/profile, conf/task, conf/model and the table's rows.
        point: where the table sweeps something, the setting and its value here.
        overrides: of `spt.train`, all but seed and learning rate.
        seeds: of the runs; the first is the one that learning rates are tried with.
        learning_rates: the candidates; none where the config's own is taken.
    """

    table: str
    profile: str
    task: str
    model: str
    row: str
    point: tuple[str, Any] | None
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """The cell's name on the command line: table/task/model/row, with the swept value at its end."""
        return "/".join([self.table, self.task, self.model, self.row, *([str(self.point[1])] if self.point else [])])

    @property
    def trials(self) -> list["Job"]:
        """One run for each learning rate that is tried."""
        return [Job(self, self.seeds[0], rate) for rate in self.learning_rates]

    def jobs(self, learning_rate: float | None) -> list["Job"]:
        """One run for each seed, with the learning rate that was chosen."""
        return [Job(self, seed, learning_rate) for seed in self.seeds]


@dataclass(frozen=True)
class Job:
    """One run of a cell."""

    cell: Cell
    seed: int
    learning_rate: float | None

    @property
    def name(self) -> str:
        """The run for people."""
        point = [f"{self.cell.point[0].rpartition('.')[2]}={self.cell.point[1]}"] if self.cell.point else []
        rate = [] if self.learning_rate is None else [f"lr {self.learning_rate:g}"]
        return ", ".join([f"{self.cell.task} {self.cell.model} {self.cell.row}", *point, *rate, f"seed {self.seed}"])

    @property
    def overrides(self) -> list[str]:
        """The command line of the run, after `python -m spt.train`."""
        rate = [] if self.learning_rate is None else [f"trainer.learning_rate={self.learning_rate}"]
        return [*self.cell.overrides, *rate, f"seed={self.seed}"]


def cells(config: DictConfig) -> list[Cell]:
    """All cells of the tables and profiles of a config of `spt.reproduce` or `spt.report`.

    Raises:
        SptError: where a table or a profile does not say what it must.
    """
    grid: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    found = []
    for group in ("table", "profile"):
        if not grid.get(f"{group}s"):
            raise SptError(f"no {group} is chosen: leave {group}= out, or name one of conf/{group}")
    for profile_name, profile in grid["profiles"].items():
        seeds = profile["seeds"]
        if not isinstance(seeds, list) or not seeds or not all(map(is_whole, seeds)) or len({*seeds}) < len(seeds):
            raise SptError(f"profiles.{profile_name}.seeds must be a list of different whole numbers, not {seeds!r}")
    for name, table in grid["tables"].items():
        for profile_name, profile in grid["profiles"].items():
            part = table["profiles"].get(profile_name)
            if part is not None:
                found += _cells(name, table, profile_name, profile, part)
    return found


def _cells(
    name: str, table: dict[str, Any], profile_name: str, profile: dict[str, Any], part: dict[str, Any]
) -> list[Cell]:
    rows = table["rows"]
    sweep = part.get("sweep", table.get("sweep")) or {}
    if len(sweep) > 1:
        raise SptError(f"table {name} sweeps {', '.join(sweep)}: a table sweeps one setting")
    for key in ("models", "tasks"):
        if not isinstance(part[key], list):
            raise SptError(f"tables.{name}.profiles.{profile_name}.{key} must be a list, not {part[key]!r}")
    swept = [(key, value) for key, values in sweep.items() for value in values]
    points: list[tuple[str, Any] | None] = [*swept] or [None]
    found = []
    for model, task, row in itertools.product(part["models"], part["tasks"], part.get("rows", list(rows))):
        if row not in rows:
            raise SptError(f"table {name} has no row {row!r}: {nearest(row, rows)}")
        rates = tuple(profile["learning_rates"].get(rows[row].get("method"), ()))
        is_searched = len(rates) > 1 and table.get("search", True)
        for point in points:
            overrides = [
                *profile["set"],
                *profile["tasks"].get(task, []),
                *(f"trainer.learning_rate={rate}" for rate in rates[:1] if not is_searched),
                *rows[row].get("set", []),
                *([f"{point[0]}={point[1]}"] if point else []),
            ]
            found.append(
                Cell(
                    table=name,
                    profile=profile_name,
                    task=task,
                    model=model,
                    row=row,
                    point=point,
                    overrides=(*_groups(name, row, rows[row], task, model), *overrides),
                    seeds=tuple(part.get("seeds", profile["seeds"])),
                    learning_rates=rates if is_searched else (),
                )
            )
    return found


def _groups(table: str, row: str, spec: dict[str, Any], task: str, model: str) -> list[str]:
    unknown = spec.keys() - ROW_KEYS
    if unknown or "method" not in spec:
        raise SptError(f"row {row!r} of table {table} needs method, and takes recipe and set, not {sorted(unknown)}")
    recipe = f"{spec['recipe']}/{task}/{model}" if "recipe" in spec else None
    groups = [f"task={task}", f"model={model}", f"method={spec['method']}"]
    return [*groups, *([f"recipe={recipe}"] if recipe in recipes() else [])]


def identity(config: dict[str, Any]) -> str:
    """A hash of a resolved config of `spt.train` that does not depend on where the data and the weights lie."""
    return hashlib.sha256(json.dumps(comparable(config), sort_keys=True).encode()).hexdigest()


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """What of a resolved config changes a result, wherever the data and the weights lie."""
    kept = settings(config)
    for group, places in PLACES.items():
        kept[group] = {key: value for key, value in kept[group].items() if key not in places}
    return _as_floats(kept)


def flat(config: dict[str, Any], outer: str = "") -> dict[str, Any]:
    """The settings of nested groups by their names on the command line."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{outer}{key}.") if isinstance(value, dict) else {f"{outer}{key}": value}
    return found


def _as_floats(value: Any) -> Any:
    """A setting with whole numbers as floats: `method.sl_weight=0` and a default of 0.0 are the same."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if is_whole(value) else value


class Composer:
    """The resolved configs of jobs. Hydra composes one a cell: its jobs differ in seed and learning rate only."""

    def __init__(self) -> None:
        self.composed: dict[tuple[str, ...], dict[str, Any]] = {}

    def config(self, job: Job) -> dict[str, Any]:
        """The resolved config of `spt.train` with the job's overrides."""
        overrides = job.cell.overrides
        if overrides not in self.composed:
            resolved = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
            self.composed[overrides] = resolved  # type: ignore[assignment]
        config = self.composed[overrides]
        rate = config["trainer"]["learning_rate"] if job.learning_rate is None else job.learning_rate
        return config | {"seed": job.seed, "trainer": config["trainer"] | {"learning_rate": rate}}

    def identity(self, job: Job) -> str:
        """The identity of the job's config."""
        return identity(self.config(job))
