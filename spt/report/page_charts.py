"""The charts of the page `index.html`, as JSON: learning curves, sweeps, similarity of slots, cost and score.

A chart is a dictionary: `table`, `task`, `model`, `title`; `x` and `y` with their `label`, `x` with the `ticks` of a
sweep or `log`, `y` with the `least` width of its axis or its fixed `range`; and `series` of a `label`, a colour and
dashes, with `runs` (places in the page's runs, whose curves and mean are drawn) or with points `x`, `y`, `err` and `n`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pandas import DataFrame

from spt.figure_style import Look, looks
from spt.report.figures import MOST_ROWS
from spt.report.number_format import BASELINES, METRICS, QUANTITIES
from spt.report.page_data import Json, places_of
from spt.report.prefix_frame import COSINE, over_seeds
from spt.report.prefix_tables import MATRICES
from spt.report.published_numbers import curve
from spt.report.runs_frame import GROUP, each_row
from spt.report.seed_means import FEWEST_POINTS, unselected

LEAST_WIDTH = 10.0  # of a score axis, in points, so that noise looks small


def charts(titles: Mapping[str, str], cells: DataFrame, runs: DataFrame, prefixes: DataFrame) -> dict[str, list[Json]]:
    """The charts for which there are runs, by the section of the page: "curves", "sweeps", "prefixes" and "cost".

    Args:
        titles: the titles of the tables, by name.
        cells, runs, prefixes: the `cells_frame`, the `runs_frame` and the `prefix_frame` of all tables.
    """
    charts: dict[str, list[Json]] = {"curves": [], "sweeps": [], "prefixes": [], "cost": []}
    places, looks_of = places_of(runs), looks(cells.row)
    finished = runs[(runs.role == "seed") & runs.run.notna()]
    scored = cells[cells.n > 0]
    similar = over_seeds(prefixes[prefixes.measure == COSINE])
    for table, title in titles.items():
        for (task, model, profile), own in scored[scored.table == table].groupby(GROUP, sort=False):
            if own.row.nunique() > MOST_ROWS:
                continue
            of = ", ".join(filter(None, [task, model, profile]))
            chart = {"table": title, "task": task, "model": model, "title": of}
            lines = own[own.quantity == unselected(own.quantity)]
            if not own.setting.iloc[0]:
                of_group = finished[(finished[["table", *GROUP]] == [table, task, model, profile]).all(axis=1)]
                charts["curves"].append(chart | _curves(of_group, own.metric.iloc[0], places, looks_of))
            elif own.value.nunique() >= FEWEST_POINTS:
                charts["sweeps"].append(chart | _sweep(lines, looks_of))
                if similarity := _similarity(lines, similar, looks_of):
                    charts["prefixes"].append(chart | similarity)
            if lines.trainable_parameters.nunique() > 1:
                charts["cost"].append(chart | _cost(lines, looks_of))
    return charts


def _series(label: str, look: Look, **points: Any) -> Json:
    line = look["linestyle"]  # "-", or the lengths of dashes and gaps after an offset
    return {"label": label, "colour": look["color"], "dash": [] if line == "-" else line[1], **points}


def _curves(runs: DataFrame, metric: str, places: Mapping[str, int], looks_of: Mapping[str, Look]) -> Json:
    """The dev score by epoch: the runs of each row, and the released run."""
    series = []
    for row, own in runs.groupby("row", sort=False):
        released = curve(own.task.iloc[0], own.model.iloc[0], row, metric)
        drawn = _series(row, looks_of[row], runs=[places[folder] for folder in own.folder])
        series.append(drawn | ({"published": list(zip(*released, strict=True))} if released else {}))
    return {
        "x": {"label": "epoch"},
        "y": {"label": f"{METRICS[metric]}, %", "least": LEAST_WIDTH},
        "series": series,
    }


def _sweep(cells: DataFrame, looks_of: Mapping[str, Look]) -> Json:
    """The score at each value of the setting, mean ± standard deviation over seeds, beside scores without a model."""
    values = _values(cells)
    series = [
        _series(row, looks_of[row], **_points(own, [values.index(float(value)) for value in own.value], own["mean"]))
        for row, own in cells.groupby("row", sort=False)
    ]
    known = {label: cells[name].dropna() for name, label in BASELINES.items()}
    return {
        "x": {"label": cells.setting.iloc[0], "ticks": [f"{value:g}" for value in values]},
        "y": _score_axis(cells),
        "series": series,
        "lines": [{"label": label, "y": _round(own.iloc[0])} for label, own in known.items() if len(own)],
    }


def _values(cells: DataFrame) -> list[float]:
    return sorted({*cells.value.astype(float)})


def _points(cells: DataFrame, x: Iterable[float], y: "pd.Series[float]") -> Json:
    err = cells["std"].fillna(0)
    return {"x": list(x), "y": list(map(_round, y)), "err": list(map(_round, err)), "n": list(cells.n)}


def _round(score: float) -> float:
    return round(float(score), 3)


def _score_axis(cells: DataFrame) -> Json:
    line = cells.iloc[0]
    return {"label": f"{METRICS[line.metric]}, {QUANTITIES[line.quantity].lower()}, %", "least": LEAST_WIDTH}


def _similarity(cells: DataFrame, numbers: DataFrame, looks_of: Mapping[str, Look]) -> Json | None:
    """Mean |cos| between slots at each value of the setting, of keys and of values; None without numbers."""
    values = _values(cells)
    series = []
    for row, own in cells.groupby("row", sort=False):
        for matrix, label in MATRICES.items():
            keys = [(line.profile, line.cell, COSINE, matrix) for line in each_row(own)]
            known = [key in numbers.index for key in keys]
            if any(known):
                cosines = numbers.loc[[key for key, is_known in zip(keys, known, strict=True) if is_known]]
                x = [values.index(float(value)) for value in own.value[known]]
                drawn = _series(f"{row}, {label}", looks_of[row], **_points(cosines, x, cosines["mean"]))
                series.append(drawn | {"dash": [] if matrix == "key" else [3, 2]})
    if not series:
        return None
    ticks = [f"{value:g}" for value in values]
    return {
        "x": {"label": cells.setting.iloc[0], "ticks": ticks},
        "y": {"label": "mean |cos| between slots", "range": [0, 1]},
        "series": series,
    }


def _cost(cells: DataFrame, looks_of: Mapping[str, Look]) -> Json:
    """The score against trainable parameters."""
    series = [
        _series(row, looks_of[row], **_points(own, own.trainable_parameters.astype(int), own["mean"]))
        for row, own in cells.groupby("row", sort=False)
    ]
    return {"x": {"label": "trainable parameters", "log": True}, "y": _score_axis(cells), "series": series}
