"""Numbers, names and cells as text."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from pandas import DataFrame


class Terms(dict[str, str]):
    """Names in print; an unlisted name gets spaces for its underscores."""

    def __missing__(self, name: str) -> str:
        return name.replace("_", " ")


METRICS = Terms(
    accuracy="accuracy",
    macro_f1="macro F1",
    f1="F1",
    f1a="F1a",
    em="exact match",
    matthews="Matthews correlation",
    spearman="Spearman correlation",
    pearson="Pearson correlation",
)

QUANTITIES = Terms(best_dev="Best dev", last_dev="Last epoch on dev", held_out="Held out", test="Test")

# What a score is of, where there is room for few words.
SPLITS = Terms(best_dev="dev, best epoch", last_dev="dev, last epoch", held_out="held-out", test="test")

BASELINES = {"majority": "majority class", "random": "random classes"}  # scores that need no model

NONE, NOT_APPLICABLE = "none", "n/a"


def number(value: float, digits: int = 2, sign: bool = False) -> str:
    """A number with a true minus sign, and no sign before zero."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def at_most_100(points: float) -> str:
    """A difference of scores in percent, "> 100" where no two scores are so far apart, and "n/a" if it is NaN."""
    return NOT_APPLICABLE if pd.isna(points) else "> 100" if points > 100 else number(points)


def mean_and_std(mean: float, std: float, digits: int = 2, sign: bool = False) -> str:
    """A mean ± its standard deviation, which is left out if it is NaN."""
    return number(mean, digits, sign) + ("" if pd.isna(std) else f" ± {number(std, digits)}")


def p_value(p: float | None) -> str:
    """A p-value to three digits."""
    return NOT_APPLICABLE if p is None or pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Iterable[Any]) -> str:
    """Names separated by commas, each once."""
    return ", ".join(dict.fromkeys(map(str, names)))


def extents(cells: DataFrame) -> list[str]:
    """Cells of a table and model in few words: a text for the tasks that have the same rows and swept values."""
    points: dict[str, dict[str, list[str]]] = {}
    for task, row, value in zip(cells.task, cells.row, cells.value, strict=True):
        points.setdefault(task, {}).setdefault(row, []).append(value)
    tasks: dict[str, list[str]] = {}
    for task, by_row in points.items():
        rows: dict[str, list[str]] = {}
        for row, values in by_row.items():
            rows.setdefault(listed(filter(None, values)), []).append(row)
        words = [listed(names) + (f" at {values}" if values else "") for values, names in rows.items()]
        tasks.setdefault("; ".join(words), []).append(task)
    return [f"{listed(names)}: {words}" for words, names in tasks.items()]


def conditions(row: dict[str, str]) -> str:
    """What a published number is of: its source, split, selection of the epoch, seed and note."""
    seed = f"seed {row['seed']}" if row["seed"] else "seeds not given"
    return ", ".join([row["source"], row["split"], row["selection"], seed, *([row["note"]] if row["note"] else [])])


def also_published(row: dict[str, str]) -> str:
    """A further published number of a cell."""
    return f"{row['value']} ({conditions(row)})"


class Names:
    """What tasks, models, rows and settings are called in print: as `conf/display.yaml` says, if it does."""

    def __init__(self, config: DictConfig) -> None:
        """Of a config of `spt.report`."""
        self._names: Any = OmegaConf.to_container(config.display)

    def task(self, name: str) -> str:
        return self._of("task", name)

    def model(self, name: str) -> str:
        """A model, with what a reader must know of the demo's."""
        return self._of("model", name) + (" (a demo, not a result)" if name == "demo" else "")

    def row(self, name: str) -> str:
        return self._of("row", name)

    def setting(self, key: str) -> str:
        """A swept setting; without a display name the last part of its key."""
        return self._of("setting", key, key.rpartition(".")[2])

    def _of(self, group: str, name: str, otherwise: str | None = None) -> str:
        return str(self._names[group].get(name, otherwise or name))
