"""The cells of the tables: which runs make a number, and what a cell is called on the command line.

Tables and profiles are in `conf/table` and `conf/profile`.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError, nearest
from spt.grid.table_schema import Part, Profile, Table, checked
from spt.recipes import recipe_setting, recipes


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
        SptError: if a table or a profile is incomplete or inconsistent, or names an unknown task, method or recipe.
    """
    grid: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    for group in ("table", "profile"):
        if not grid.get(f"{group}s"):
            raise SptError(f"no {group} is chosen: leave {group}= out, or name one of conf/{group}")
    profiles = {name: checked(Profile, name, content) for name, content in grid["profiles"].items()}
    tables = {name: checked(Table, name, content) for name, content in grid["tables"].items()}
    _check_names(tables, profiles)
    every = [
        cell
        for (name, table), (profile_name, profile) in itertools.product(tables.items(), profiles.items())
        for part in table.profiles.get(profile_name, [])
        for cell in _cells(name, table, profile_name, profile, part)
    ]
    if not every:
        raise SptError(f"tables {', '.join(tables)} have no part for profile {', '.join(profiles)}")
    return every


def _check_names(tables: dict[str, Table], profiles: dict[str, Profile]) -> None:
    """Refuse a profile's settings for a task or method that there is not, and a row's recipe of no known method."""
    loader = GlobalHydra.instance().config_loader()
    for name, profile in profiles.items():
        for group, named in (("task", profile.tasks), ("method", profile.learning_rates)):
            known = loader.get_group_options(group)
            for each in named:
                if each not in known:
                    raise SptError(f"profile {name}: unknown {group} {each!r}: {nearest(each, known)}")
    known = sorted({recipe.partition("/")[0] for recipe in recipes()})
    for name, table in tables.items():
        for row in table.rows.values():
            if row.recipe is not None and row.recipe not in known:
                raise SptError(
                    f"table {name}: conf/recipe has no recipes of {row.recipe!r}: {nearest(row.recipe, known)}"
                )


def _cells(name: str, table: Table, profile_name: str, profile: Profile, part: Part) -> Iterator[Cell]:
    sweep = table.sweep if part.sweep is None else part.sweep
    swept = [(key, *point) for key, values in sweep.items() for point in values]
    points: list[tuple[str, float, Any] | None] = [*swept] or [None]
    rows = table.rows if part.rows is None else part.rows
    known_recipes = {*recipes()}
    for model, task, row_name in itertools.product(part.models, part.tasks, rows):
        row = table.rows[row_name]
        recipe: str | None = f"{row.recipe or row.method}/{task}/{model}"
        recipe = recipe if recipe in known_recipes else None
        published = recipe_setting(recipe, "seed") if recipe is not None and profile.published_seed else None
        given, first = part.seeds or profile.seeds, [] if published is None else [published]
        seeds = (*first, *(seed for seed in given if seed not in first))[: len(given)]
        groups = [f"task={task}", f"model={model}", f"method={row.method}"]  # the method's own recipe follows from them
        groups += [f"recipe={recipe}"] if recipe is not None and row.recipe is not None else []
        rates = tuple(profile.learning_rates.get(row.method, ()))
        is_searched = len(rates) > 1 and table.search
        for point in points:
            overrides = [
                *profile.set,
                *profile.tasks.get(task, []),
                *(f"trainer.learning_rate={rate}" for rate in rates[:1] if not is_searched),
                *part.set,
                *row.set,
                *([f"{point[0]}={point[2]}"] if point else []),
            ]
            yield Cell(
                table=name,
                profile=profile_name,
                task=task,
                model=model,
                row=row_name,
                point=point and point[:2],
                overrides=(*groups, *overrides),
                seeds=seeds,
                learning_rates=rates if is_searched else (),
                is_reference=point is not None and point[1] == table.reference,
            )
