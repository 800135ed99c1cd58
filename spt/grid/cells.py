"""The cells of the tables: which runs make a number, and what a cell is called on the command line.

Tables and profiles are in `conf/table` and `conf/profile`.
"""

import itertools
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError, is_whole, nearest
from spt.recipes import recipe_setting, recipes

ROW_KEYS = {"method", "recipe", "set"}


@dataclass(frozen=True)
class Cell:
    """One number of a table: a row on a task with a model, over seeds.

    Attributes:
        table, profile, task, model, row: names of conf/table, conf/profile, conf/task, conf/model and the table's rows.
        point: the swept setting and its value, if the table sweeps one.
        overrides: the overrides of `spt.train`, except seed and learning rate.
        seeds: the seeds of the runs; learning rates are tried with the first.
        learning_rates: the candidates; empty if the learning rate is the config's.
        is_reference: whether the other points of the sweep are compared with this one.
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
    is_reference: bool = False

    @property
    def name(self) -> str:
        """The cell's name on the command line: table/task/model/row, in a sweep followed by /value."""
        return "/".join([self.table, self.task, self.model, self.row, *([str(self.point[1])] if self.point else [])])

    @property
    def trials(self) -> list["Job"]:
        """One run for each candidate learning rate, with the first seed."""
        return [Job(self, self.seeds[0], rate) for rate in self.learning_rates]

    def jobs(self, learning_rate: float | None) -> list["Job"]:
        """One run for each seed, with the chosen learning rate."""
        return [Job(self, seed, learning_rate) for seed in self.seeds]


@dataclass(frozen=True)
class Job:
    """One run of a cell."""

    cell: Cell
    seed: int
    learning_rate: float | None

    @property
    def name(self) -> str:
        """A description of the run for messages."""
        point = [f"{self.cell.point[0].rpartition('.')[2]}={self.cell.point[1]}"] if self.cell.point else []
        rate = [] if self.learning_rate is None else [f"lr {self.learning_rate:g}"]
        return ", ".join([f"{self.cell.task} {self.cell.model} {self.cell.row}", *point, *rate, f"seed {self.seed}"])

    @property
    def overrides(self) -> list[str]:
        """The arguments of `python -m spt.train` that make the run."""
        rate = [] if self.learning_rate is None else [f"trainer.learning_rate={self.learning_rate}"]
        return [*self.cell.overrides, *rate, f"seed={self.seed}"]


def cells(config: DictConfig) -> list[Cell]:
    """All cells of the tables and profiles in a config of `spt.reproduce` or `spt.report`.

    Raises:
        SptError: if a table or a profile is incomplete or inconsistent.
    """
    grid: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    every: list[Cell] = []
    for group in ("table", "profile"):
        if not grid.get(f"{group}s"):
            raise SptError(f"no {group} is chosen: leave {group}= out, or name one of conf/{group}")
    for profile_name, profile in grid["profiles"].items():
        seeds = profile["seeds"]
        if not isinstance(seeds, list) or not seeds or not all(map(is_whole, seeds)) or len({*seeds}) < len(seeds):
            raise SptError(f"profiles.{profile_name}.seeds must be a list of different whole numbers, not {seeds!r}")
    for name, table in grid["tables"].items():
        for profile_name, profile in grid["profiles"].items():
            parts = table["profiles"].get(profile_name, [])
            for part in parts if isinstance(parts, list) else [parts]:
                every += _cells(name, table, profile_name, profile, part)
    if not every:
        raise SptError(f"tables {', '.join(grid['tables'])} have no part for profile {', '.join(grid['profiles'])}")
    return every


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
    swept = [(key, *_shown_and_set(value)) for key, values in sweep.items() for value in values]
    points: list[tuple[str, Any, Any] | None] = [*swept] or [None]
    every = []
    for model, task, row in itertools.product(part["models"], part["tasks"], part.get("rows", list(rows))):
        if row not in rows:
            raise SptError(f"table {name} has no row {row!r}: {nearest(row, rows)}")
        recipe = _recipe(name, row, rows[row], task, model)
        rates = tuple(profile["learning_rates"].get(rows[row]["method"], ()))
        is_searched = len(rates) > 1 and table.get("search", True)
        for point in points:
            overrides = [
                *profile["set"],
                *profile["tasks"].get(task, []),
                *(f"trainer.learning_rate={rate}" for rate in rates[:1] if not is_searched),
                *part.get("set", []),
                *rows[row].get("set", []),
                *([f"{point[0]}={point[2]}"] if point else []),
            ]
            every.append(
                Cell(
                    table=name,
                    profile=profile_name,
                    task=task,
                    model=model,
                    row=row,
                    point=point and point[:2],
                    overrides=(*_groups(rows[row], recipe, task, model), *overrides),
                    seeds=_seeds(part.get("seeds", profile["seeds"]), profile, recipe),
                    learning_rates=rates if is_searched else (),
                    is_reference=point is not None and point[1] == table.get("reference"),
                )
            )
    return every


def _shown_and_set(value: Any) -> tuple[Any, Any]:
    """The number that stands for a point of a sweep, and what its runs set: `922: null` is a number and its setting."""
    shown, given = next(iter(value.items())) if isinstance(value, dict) else (value, value)
    return shown, "null" if given is None else given


def _recipe(table: str, row: str, spec: dict[str, Any], task: str, model: str) -> str | None:
    """The name of the recipe that a row's run takes on a task with a model; None if none is published."""
    unknown = spec.keys() - ROW_KEYS
    if unknown or "method" not in spec:
        raise SptError(f"row {row!r} of table {table} needs method, and takes recipe and set, not {sorted(unknown)}")
    name = f"{spec.get('recipe', spec['method'])}/{task}/{model}"
    return name if name in recipes() else None


def _groups(spec: dict[str, Any], recipe: str | None, task: str, model: str) -> list[str]:
    """The overrides that choose task, model and method; those of the method's own recipe follow from them."""
    groups = [f"task={task}", f"model={model}", f"method={spec['method']}"]
    return [*groups, *([f"recipe={recipe}"] if recipe is not None and "recipe" in spec else [])]


def _seeds(seeds: list[int], profile: dict[str, Any], recipe: str | None) -> tuple[int, ...]:
    """As many seeds as given, the published run's first where the profile says `published_seed`."""
    published = recipe_setting(recipe, "seed") if recipe is not None and profile.get("published_seed") else None
    first = [] if published is None else [published]
    return (*first, *(seed for seed in seeds if seed not in first))[: len(seeds)]
