"""The figures: learning curves, sweeps and costs."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from spt.figure_style import COLOURS, DASHES, MARKERS
from spt.report.number_format import METRICS, QUANTITIES
from spt.report.published_numbers import curve
from spt.report.runs_frame import DEV
from spt.report.seed_means import FEWEST_POINTS, unselected

MOST_ROWS = 14  # of a task and model in a figure: more cannot be told apart

LEGEND = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}

Looks = dict[str, dict[str, Any]]  # colour, marker and dashes of each row of a table


def drawings(titles: Mapping[str, str], cells: DataFrame, runs: DataFrame) -> dict[str, Callable[[], Figure]]:
    """All figures for which there are runs: a function that draws the figure, by the name of its files.

    A task with more than `MOST_ROWS` rows is left out.

    Args:
        titles: the titles of the tables, by name.
        cells, runs: the `cells_frame` and `runs_frame` of all tables.
    """
    functions: dict[str, Callable[[], Figure]] = {}
    finished = runs[(runs.role == "seed") & runs.run.notna()]
    for table, title in titles.items():
        own, own_runs = cells[(cells.table == table) & (cells.runs > 0)], finished[finished.table == table]
        own = own[own.groupby(["task", "model"]).row.transform("nunique") <= MOST_ROWS]
        looks = looks_of(cells.row[cells.table == table])
        for (task, model), group in own.groupby(["task", "model"]):
            heading = f"{title}: {task}, {model}" + (" (a demo, not a result)" if model == "demo" else "")
            if group.setting.iloc[0]:
                if group.value.nunique() >= FEWEST_POINTS:
                    functions[f"{table}.{task}.{model}.sensitivity"] = partial(_sensitivity, heading, group, looks)
            else:
                of_group = own_runs[(own_runs.task == task) & (own_runs.model == model)]
                draw = partial(_curves, heading, of_group, group.metric.iloc[0], looks)
                functions[f"{table}.{task}.{model}.curves"] = draw
        if own.trainable_parameters.nunique() > 1:
            functions[f"{table}.cost"] = partial(_costs, title, own, looks)
    return functions


def looks_of(rows: Iterable[str]) -> Looks:
    """A combination for each row that no other has, distinct in grey too."""
    names = list(dict.fromkeys(rows))
    looks = zip(names, cycle(COLOURS), cycle(MARKERS), strict=False)
    return {
        row: {"color": colour, "marker": marker, "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}
        for place, (row, colour, marker) in enumerate(looks)
    }


def empty_figure(rows: int, columns: int) -> tuple[Figure, Any]:
    """An empty figure and its axes, with room for a legend on the right.

    The margins are fixed, in inches: Matplotlib's layout engines take as long as drawing.
    """
    width, height = 2.6 + 4 * columns, 0.4 + 3.2 * rows
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(0.7 / width, 0.55 / height, 1 - 2.6 / width, 1 - 0.7 / height, wspace=0.3, hspace=0.4)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curves(title: str, runs: DataFrame, metric: str, looks: Looks) -> Figure:
    """The dev score of each epoch: thin lines are seeds, thick lines their mean, grey lines the authors' runs."""
    figure, ((axes,),) = empty_figure(1, 1)
    for row, group in runs.groupby("row", sort=False):
        look = looks[row]
        released = curve(group.task.iloc[0], group.model.iloc[0], row, metric)
        if released:
            label = f"{row}, authors' run"
            axes.plot(*zip(*released, strict=True), color="#999999", linewidth=2.5, label=label, zorder=1)
        dev = f"dev_{metric}"
        rows = [[row for row in run.history if dev in row] for run in group.run]
        histories = [[100 * row[dev] for row in epochs] for epochs in rows if epochs]
        for scores in histories:
            axes.plot(range(1, len(scores) + 1), scores, color=look["color"], linewidth=0.6, alpha=0.5, zorder=2)
        if histories:
            shortest = min(map(len, histories))
            mean = np.mean([scores[:shortest] for scores in histories], axis=0)
            label = f"{row} (n = {len(histories)})"
            style = look | {"linewidth": 1.5, "markersize": 3.5, "markevery": max(1, shortest // 10)}
            axes.plot(range(1, shortest + 1), mean, **style, label=label, zorder=3)
    axes.set(title=title, xlabel="epoch", ylabel=f"dev {METRICS[metric]}, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(**LEGEND)
    return figure


def set_swept_values(axes: Any, values: list[float]) -> None:
    """Put the values of a sweep, in ascending order, on a logarithmic axis; 0 has a place on it."""
    if positive := [value for value in values if value > 0]:
        axes.set_xscale("symlog", linthresh=positive[0]) if values[0] <= 0 else axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def _sensitivity(title: str, cells: DataFrame, looks: Looks) -> Figure:
    """The score at each value of a sweep, mean ± standard deviation: best dev, and a split that selected nothing."""
    shown = _quantities(cells)
    figure, (panels,) = empty_figure(1, len(shown))
    values = sorted({*cells.value.astype(float)})
    for axes, quantity in zip(panels, shown, strict=True):
        scores = cells[(cells.quantity == quantity) & (cells.n > 0)].assign(x=lambda points: points.value.astype(float))
        for row, look in looks.items():
            points = scores[scores.row == row].sort_values("x")
            if len(points):
                style = look | {"capsize": 2, "markersize": 4, "linewidth": 1.2, "label": row}
                axes.errorbar(points.x, points["mean"], points["std"].fillna(0), **style)
        set_swept_values(axes, values)
        axes.set(xlabel=cells.setting.iloc[0].rpartition(".")[2], ylabel=f"{METRICS[cells.metric.iloc[0]]}, %")
        axes.set_title(QUANTITIES.get(quantity, quantity))
    panels[-1].legend(**LEGEND)
    figure.suptitle(title)
    return figure


def _costs(title: str, cells: DataFrame, looks: Looks) -> Figure:
    """The score, on a split that selected nothing if there is one, against trainable parameters and seconds."""
    groups = list(cells.groupby(["task", "model"]))
    figure, panels = empty_figure(len(groups), 2)
    for (left, right), ((task, model), group) in zip(panels, groups, strict=True):
        quantity = _quantities(group)[-1]
        for row, look in looks.items():
            points = group[(group.row == row) & (group.quantity == quantity) & (group.n > 0)]
            if len(points):
                style = {name: look[name] for name in ("color", "marker")}
                style |= {"linestyle": "none", "capsize": 2, "markersize": 4, "label": row}
                mean, std = points["mean"], points["std"].fillna(0)
                left.errorbar(points.trainable_parameters.astype(int), mean, std, **style)
                right.errorbar(points.seconds_mean, mean, std, points.seconds_std.fillna(0), **style)
        left.set_xscale("log")
        left.set(xlabel="trainable parameters", title=f"{task}, {model}")
        right.set(xlabel="seconds a run", title=f"{QUANTITIES.get(quantity, quantity)}, mean ± std")
        for axes in (left, right):
            axes.set_ylabel(f"{METRICS[group.metric.iloc[0]]}, %")
        right.legend(**LEGEND)
    demo = " (a demo, not a result)" if (cells.model == "demo").any() else ""
    figure.suptitle(f"{title}: score and cost{demo}")
    return figure


def _quantities(cells: DataFrame) -> list[str]:
    """Best dev, and a split that selected nothing if there is one."""
    scored = dict.fromkeys(cells.quantity[cells.n > 0])
    return list(dict.fromkeys([DEV[0], unselected(scored)]))
