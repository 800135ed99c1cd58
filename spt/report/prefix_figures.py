"""Figures of a sweep or an ablation: the similarity of slots, and below it the score, against the setting."""

from collections.abc import Mapping
from functools import partial

from matplotlib.figure import Figure
from pandas import DataFrame

from spt.figure_style import GREY, PAGE
from spt.report.display_names import Names
from spt.report.figure_layout import (
    BARS,
    Drawing,
    Layout,
    about_scores,
    dodged,
    legend_of,
    set_scores,
    set_swept_values,
)
from spt.report.figures import MOST_ROWS, Rows, place_and_file, rows_of
from spt.report.number_format import METRICS, SPLITS
from spt.report.prefix_frame import ABLATION, COSINE, SIMILARITY, over_seeds
from spt.report.prefix_tables import MATRICES, scored
from spt.report.runs_frame import GROUP
from spt.report.seed_means import FEWEST_POINTS

SUFFIX = ".prefixes"  # ends the names of these figures


def prefix_drawings(
    titles: Mapping[str, str], cells: DataFrame, prefixes: DataFrame, names: Names, width: float = PAGE
) -> dict[str, Drawing]:
    """The figure of each table, task and model that shows more than a point, by the name of its files.

    Args:
        titles: the titles of the tables, by name.
        cells, prefixes: the `cells_frame` and the `prefix_frame` of all tables.
        names: of tasks, models, rows and settings.
        width: of the figures, in inches.
    """
    by_name: dict[str, Drawing] = {}
    similarity = prefixes[prefixes.measure.isin(list(SIMILARITY))]
    rows = rows_of(cells, names)
    for table, title in titles.items():
        for (task, model, profile), group in scored(cells[cells.table == table]).groupby(GROUP):
            own = similarity[similarity.profile.isin(group.profile) & similarity.cell.isin(group.cell)]
            setting, shown = group.setting.iloc[0], group[group.cell.isin(own.cell)]
            if group.profile.iloc[0] and table != ABLATION and not setting.startswith("method."):
                continue
            if (shown.value if setting else shown.row).nunique() < FEWEST_POINTS or shown.row.nunique() > MOST_ROWS:
                continue
            place, name = place_and_file(names, table, task, model, profile)
            x = names.setting(setting) if setting else ""
            caption = (
                f"{title}: {place}. First, mean |cos| over the pairs of a layer's slots, mean over layers: filled "
                f"markers are keys, open ones values. Second, the score. {about_scores({place: shown})}"
            )
            draw = partial(_similarity, place, shown, over_seeds(own), rows, x, width)
            by_name[f"{name}{SUFFIX}"] = Drawing(draw, caption)
    return by_name


def _similarity(place: str, cells: DataFrame, numbers: DataFrame, rows: Rows, setting: str, width: float) -> Figure:
    """Mean |cos| of keys (filled) and of values (open markers), and the score: mean ± standard deviation over seeds.

    `setting` is the name of the swept setting, empty where the rows are beside each other.
    """
    layout = Layout(width, *((1, 2) if width >= PAGE else (2, 1)))
    left, right = layout.panels.flat
    shown = list(dict.fromkeys(cells.row))
    cells = cells.assign(x=cells.value.astype(float) if setting else cells.row.map(shown.index).astype(float))
    for order, row in enumerate(shown):
        points = cells[cells.row == row].sort_values("x")
        label, look = rows[row]
        for matrix, name in MATRICES.items():
            own = numbers.reindex([(cell.profile, cell.cell, COSINE, matrix) for cell in points.itertuples()])
            fill = {} if matrix == "key" else {"markerfacecolor": "white", "linestyle": ":"}
            places = (2 * order + (matrix != "key"), 2 * len(shown)) if setting else (int(matrix != "key"), 2)
            style = {**look, **BARS, **fill, "transform": dodged(left, *places, 2)}
            left.errorbar(
                points.x, own["mean"], own["std"].fillna(0), **style, label=f"{label}, {name}" if setting else None
            )
        style = {**look, **BARS, "transform": dodged(right, order, len(shown)) if setting else right.transData}
        right.errorbar(points.x, points["mean"], points["std"].fillna(0), **style)
    for axes in (left, right):
        if setting:
            set_swept_values(axes, sorted({*cells.x}))
            axes.set_xlabel(setting)
        else:
            axes.set_xticks(range(len(shown)), [rows[row][0] for row in shown], rotation=90)
            axes.set_xlim(-0.6, len(shown) - 0.4)
    quantity = cells.quantity.iloc[0]
    left.set(title=f"{place}: similarity of slots", ylabel="mean |cos|", ylim=(-0.02, 1.02))
    right.set(title=f"{place}: {SPLITS[quantity]}", ylabel=f"{METRICS[cells.metric.iloc[0]]}, %")
    set_scores([(right, cells)])
    if not setting:
        for name, fill in zip(MATRICES.values(), ({}, {"markerfacecolor": "white"}), strict=True):
            left.plot([], [], color=GREY, marker="o", linestyle="none", **fill, label=name)
    longest = max(len(rows[row][0]) for row in shown)
    return layout.finish(*legend_of([left, right]), below=0.42 if setting else 0.2 + 0.06 * longest)
