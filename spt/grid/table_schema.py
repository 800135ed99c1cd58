"""What a file of `conf/table` and one of `conf/profile` hold, checked before any run starts."""

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from spt.errors import SptError, is_whole, nearest
from spt.records.schema import Exact, problems


def _seeds(value: Any) -> Any:
    if not isinstance(value, list) or not value or not all(map(is_whole, value)) or len({*value}) < len(value):
        raise ValueError(f"must be a list of different whole numbers, not {value!r}")
    return value


def _point(value: Any) -> Any:
    shown, given = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (value, value)
    if isinstance(shown, bool) or not isinstance(shown, int | float):
        raise ValueError(
            f"a point of a sweep is a number, or {{number: what to set}}, not {value!r}: take rows instead"
        )
    return shown, "null" if given is None else given


def _one_setting(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > 1:
        raise ValueError(f"a table sweeps one setting, not {', '.join(value)}")
    return value


def _parts(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Overrides = list[str]
Seeds = Annotated[list[int], BeforeValidator(_seeds)]
# The number that stands for a point, and what its runs set.
Point = Annotated[tuple[int | float, Any], BeforeValidator(_point)]
Sweep = Annotated[dict[str, list[Point]], BeforeValidator(_one_setting)]


class Row(Exact):
    """A method with overrides; `recipe` is the method whose published hyperparameters it takes, null for its own."""

    method: str
    recipe: str | None = None
    set: Overrides = Field(default_factory=list)


class Part(Exact):
    """What a profile runs of a table: `rows`, `sweep` and `seeds` replace the table's or the profile's, `set` adds."""

    tasks: list[str]
    models: list[str]
    rows: list[str] | None = None
    sweep: Sweep | None = None
    seeds: Seeds | None = None
    set: Overrides = Field(default_factory=list)


class Table(Exact):
    """A file of conf/table; `search` is whether the learning rates of a profile are tried."""

    title: str
    rows: dict[str, Row]
    profiles: dict[str, Annotated[list[Part], BeforeValidator(_parts)]]
    sweep: Sweep = Field(default_factory=dict)
    reference: int | float | None = None
    search: bool = True


class Profile(Exact):
    """A file of conf/profile: what all runs, and those of a task, set, and the learning rates to try by method."""

    seeds: Seeds
    published_seed: bool = False
    set: Overrides = Field(default_factory=list)
    tasks: dict[str, Overrides] = Field(default_factory=dict)
    learning_rates: dict[str, list[Annotated[float, Field(gt=0)]]] = Field(default_factory=dict)


Kind = TypeVar("Kind", Table, Profile)


def checked(kind: type[Kind], name: str, content: Any) -> Kind:
    """The content of the file `name`.

    Raises:
        SptError: if it is incomplete or inconsistent.
    """
    group = kind.__name__.lower()
    try:
        entry = kind.model_validate(content)
    except ValidationError as error:
        raise SptError(f"{group}s.{name} (conf/{group}): {problems(error)}") from error
    if isinstance(entry, Table):
        for part in (part for parts in entry.profiles.values() for part in parts):
            for row in part.rows or ():
                if row not in entry.rows:
                    raise SptError(f"table {name} has no row {row!r}: {nearest(row, entry.rows)}")
    return entry
