"""Inspected runs side by side: a tidy frame of their measures, and tables of means over seeds."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pandas import DataFrame, Series
from rich.table import Table
from scipy.stats import t

from spt.adapters.format import RunDescription
from spt.errors import SptError
from spt.insight.result import Insight
from spt.insight.summary_rows import HEADINGS
from spt.insight.terminal_tables import table_of_numbers
from spt.records.bootstrap import CONFIDENCE
from spt.records.comparable_settings import as_text, comparable, flat

GROUPS = ("task", "model", "method")

MEAN = "mean"  # in the column "layer": over layers


def comparison_frame(runs: Sequence[tuple[str, RunDescription, Insight]]) -> DataFrame:
    """A row per run, measure and layer, and one per run and measure of the mean over layers.

    Columns: `run`, `group` (from 1: runs that differ in the seed alone), `seed`, `task`, `model`, `method`, a column
    for each setting in which groups differ, `measure`, `layer` (from 0, or "mean") and `value`. The dev score of a run
    is its measure "dev_<metric>", with the layer "mean".

    Args:
        runs: of each its name, what its adapter says of it, and its insight.

    Raises:
        SptError: if an adapter does not say how it was trained.
    """
    settings = [_settings(about) for _, about, _ in runs]
    keys = [json.dumps(each, sort_keys=True) for each in settings]
    groups = {key: number for number, key in enumerate(dict.fromkeys(keys), start=1)}
    names = dict.fromkeys(name for each in settings for name in each)
    varying = [name for name in names if len({str(each.get(name)) for each in settings}) > 1]
    varying = [name for name in varying if name not in ("task.name", "model.name", "method.name")]
    rows = []
    for (name, about, insight), own, key in zip(runs, settings, keys, strict=True):
        assert about.training is not None
        place = {"run": name, "group": groups[key], "seed": about.training.seed}
        place |= {group: own[f"{group}.name"] for group in GROUPS}
        place |= {setting: as_text(own[setting]) if setting in own else "" for setting in varying}
        rows += [place | {"measure": m, "layer": layer, "value": value} for m, layer, value in _values(about, insight)]
    return DataFrame(rows)


def group_names(frame: DataFrame) -> dict[str, str]:
    """What each group of a `comparison_frame` is called, by the name of its first run: what differs, and the seed."""
    firsts = frame.drop_duplicates("group")
    shown = [name for name in _settings_of(frame) if name == "method" or firsts[name].nunique() > 1]
    return {
        str(run["run"]): ", ".join(
            str(run[name]) if name in GROUPS else f"{name.rpartition('.')[2]} {run[name] or 'none'}" for name in shown
        )
        + f" (seed {run['seed']})"
        for run in firsts.to_dict("records")
    }


def _settings(about: RunDescription) -> dict[str, Any]:
    """All settings that a run was made with but the seed, the fingerprints of its data, and what it was pruned to."""
    if about.training is None:
        raise SptError("an adapter does not say how it was trained: it is of an early version of spt")
    task = {name: value for name, value in about.task.items() if name != "files"}
    groups = {"task": task, "model": about.model, "method": about.method, "trainer": about.training.trainer}
    data = {split: about.training.data.get(split) for split in ("train", "validation")}
    if task.get("train_examples"):  # which the seed draws
        del data["train"]
    settings = flat(comparable(groups | {"data": data}))
    return settings | ({} if about.pruned is None else {"keep": about.pruned.keep})


def _values(about: RunDescription, insight: Insight) -> Iterator[tuple[str, str, float]]:
    assert about.training is not None
    for metric, score in list(about.training.scores.items())[:1]:
        yield f"dev_{metric}", MEAN, score
    by_layer = insight.by_layer()
    for name in (name for name in HEADINGS if name in by_layer):
        values, _ = by_layer[name]
        yield from ((name, str(layer), float(value)) for layer, value in enumerate(values))
        yield name, MEAN, float(values.mean())


def mean_and_interval(values: Series) -> str:
    """The mean over seeds, and from two seeds on ± half of its 95 % t-interval."""
    n = len(values)
    if n < 2:
        return f"{values.mean():.3f}"
    half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std() / n**0.5
    return f"{values.mean():.3f} ± {half:.3f}"


def comparison_tables(frame: DataFrame) -> Iterator[Table]:
    """The groups of runs, with a row each: their settings, their means over layers, then the layers of each measure."""
    settings = _settings_of(frame)
    measures = list(dict.fromkeys(frame.measure))
    groups = dict(iter(frame.groupby("group")))
    texts = frame.groupby(["measure", "layer", "group"]).value.agg(mean_and_interval)
    table = _table("groups of runs that differ in the seed alone", *settings, "seeds")
    for number, own in groups.items():
        table.add_row(str(number), *(str(own[name].iloc[0]) for name in settings), str(own.seed.nunique()))
    yield table
    table = _table("means over layers", *(HEADINGS.get(name, name) for name in measures))
    for number in groups:
        table.add_row(str(number), *(texts.get((name, MEAN, number), "") for name in measures))
    yield table
    for name in (name for name in measures if name in HEADINGS):
        layers = sorted({*frame.layer[frame.measure == name]} - {MEAN}, key=int)
        table = _table(f"{name}, by layer", *layers)
        for number in groups:
            table.add_row(str(number), *(texts.get((name, layer, number), "") for layer in layers))
        yield table


def _settings_of(frame: DataFrame) -> list[str]:
    """The columns from "task" to the last setting."""
    names = list(frame.columns)
    return names[names.index("task") : names.index("measure")]


def _table(title: str, *names: str) -> Table:
    """An empty table whose first column is of the number of a group."""
    table = table_of_numbers("group", *(name.rpartition(".")[2] for name in names))
    table.title, table.title_justify = title, "left"
    return table
