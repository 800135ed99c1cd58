"""Figures of a sweep or an ablation: the similarity of slots, and below it the score, against the setting."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from pandas import DataFrame

from spt.report.figures import LEGEND, MOST_ROWS, Looks, empty_figure, looks_of, set_swept_values
from spt.report.number_format import METRICS, QUANTITIES
from spt.report.prefix_frame import over_seeds
from spt.report.prefix_tables import MATRICES, scored
from spt.report.seed_means import FEWEST_POINTS

SUFFIX = ".prefixes"  # ends the names of these figures


def prefix_drawings(
    titles: Mapping[str, str], cells: DataFrame, prefixes: DataFrame
) -> dict[str, Callable[[], Figure]]:
    """A function that draws the figure of each table, task and model, by the name of its files.

    Args:
        titles: the titles of the tables, by name.
        cells, prefixes: the `cells_frame` and the `prefix_frame` of all tables.
    """
    functions: dict[str, Callable[[], Figure]] = {}
    cosines = prefixes[prefixes.measure == "mean_abs_cosine"]
    for table, title in titles.items():
        looks = looks_of(cells.row[cells.table == table])
        for (task, model), own in cosines[cosines.table == table].groupby(["task", "model"]):
            if (own.setting.iloc[0] and own.value.nunique() < FEWEST_POINTS) or own.row.nunique() > MOST_ROWS:
                continue
            of_group = cells[(cells.table == table) & (cells.task == task) & (cells.model == model)]
            heading = f"{title}: {task}, {model}" + (" (a demo, not a result)" if model == "demo" else "")
            draw = partial(_similarity, heading, scored(of_group), over_seeds(own), looks)
            functions[f"{table}.{task}.{model}{SUFFIX}"] = draw
    return functions


def _similarity(title: str, cells: DataFrame, numbers: DataFrame, looks: Looks) -> Figure:
    """Mean |cos| of keys (filled) and of values (open markers), and the score: mean ± standard deviation over seeds."""
    figure, (panels,) = empty_figure(1, 2)
    setting = cells.setting.iloc[0]
    names = list(dict.fromkeys(cells.row))
    is_known = [(cell.profile, cell.cell, "mean_abs_cosine", "key") in numbers.index for cell in cells.itertuples()]
    cells = cells[is_known].assign(x=lambda own: own.value.astype(float) if setting else own.row.map(names.index))
    for row, look in looks.items():
        points = cells[cells.row == row].sort_values("x")
        if not len(points):
            continue
        style: dict[str, Any] = look | {"capsize": 2, "markersize": 4, "linewidth": 1.2}
        for matrix, label in MATRICES.items():
            keys = [(cell.profile, cell.cell, "mean_abs_cosine", matrix) for cell in points.itertuples()]
            own = numbers.loc[keys]
            fill = {} if matrix == "key" else {"markerfacecolor": "white", "linestyle": ":"}
            text = f"{row}, {label}" if setting else None
            panels[0].errorbar(points.x, own["mean"], own["std"].fillna(0), **style | fill, label=text)
        panels[1].errorbar(points.x, points["mean"], points["std"].fillna(0), **style)
    for axes in panels:
        if setting:
            set_swept_values(axes, sorted({*cells.x}))
            axes.set_xlabel(setting.rpartition(".")[2])
        else:
            axes.set_xticks(range(len(names)), names, rotation=90)
            figure.subplots_adjust(bottom=0.33)
    quantity = cells.quantity.iloc[0]
    panels[0].set(title="Slots, mean over layers", ylabel="mean |cos|", ylim=(-0.02, 1.02))
    panels[1].set(title=QUANTITIES.get(quantity, quantity), ylabel=f"{METRICS[cells.metric.iloc[0]]}, %")
    if not setting:
        for style in ({"color": "grey"}, {"color": "grey", "markerfacecolor": "white"}):
            panels[1].plot([], [], marker="o", linestyle="none", **style)
        panels[1].legend(panels[1].lines[-2:], MATRICES.values(), **LEGEND)
    else:
        panels[1].legend(*panels[0].get_legend_handles_labels(), **LEGEND)
    figure.suptitle(title)
    return figure
