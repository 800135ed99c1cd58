"""The figures: learning curves, sweeps, costs, and what a setting does to the similarity of slots."""

from collections.abc import Mapping
from functools import partial
from itertools import chain

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from pandas import DataFrame

from spt.figure_style import GREY, PAGE, Look, looks
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
from spt.report.number_format import METRICS, SPLITS, Names
from spt.report.prefix_frame import ABLATION, COSINE, SIMILARITY, over_seeds
from spt.report.prefix_tables import MATRICES, scored
from spt.report.published_numbers import curve
from spt.report.runs_frame import DEV, GROUP, dev_scores
from spt.report.seed_means import FEWEST_POINTS, unselected

SUFFIX = ".prefixes"  # ends the names of the figures of slots

MOST_ROWS = 18  # of a task and model in a figure: more cannot be told apart

Rows = Mapping[str, tuple[str, Look]]  # the display name and the look of each row

Points = list[tuple[float, float]]  # epochs and scores

Curves = dict[str, tuple[Points, list[list[float]]]]  # by row: what is published, and the score of each epoch by seed


def drawings(
    titles: Mapping[str, str], cells: DataFrame, runs: DataFrame, names: Names, width: float = PAGE
) -> dict[str, Drawing]:
    """All figures that show more than a point, by the name of their files; none of more than `MOST_ROWS` rows.

    Args:
        titles: the titles of the tables, by name.
        cells, runs: the `cells_frame` and `runs_frame` of all tables.
        names: of tasks, models, rows and settings.
        width: of the figures, in inches.
    """
    by_name: dict[str, Drawing] = {}
    finished = runs[(runs.role == "seed") & runs.run.notna()]
    rows = rows_of(cells, names)
    for table, title in titles.items():
        own, own_runs = cells[(cells.table == table) & (cells.n > 0)], finished[finished.table == table]
        own = own[own.groupby(GROUP).row.transform("nunique") <= MOST_ROWS]
        compared = dict[str, DataFrame]()
        for (task, model, profile), group in own.groupby(GROUP):
            place, name = place_and_file(names, table, task, model, profile)
            compared[place] = group[group.quantity == unselected(group.quantity)]
            if setting := group.setting.iloc[0]:
                if group.value.nunique() >= FEWEST_POINTS:
                    by_name[f"{name}.sensitivity"] = _sensitivity_of(
                        title, place, group, rows, names.setting(setting), width
                    )
                continue
            of_group = own_runs[(own_runs[GROUP] == [task, model, profile]).all(axis=1)]
            curves = _curves_of(of_group, group.metric.iloc[0])
            if any(len(scores) > 1 for _, by_seed in curves.values() for scores in by_seed):
                best = group[group.quantity == DEV[0]]
                draw = partial(_curves, place, best, curves, rows, width)
                lines = "Thin lines are seeds, thick ones their mean"
                lines += ", grey ones runs that the authors released" * any(points for points, _ in curves.values())
                caption = f"{title}: {place}, the dev score of each epoch. {lines}."
                by_name[f"{name}.curves"] = Drawing(draw, f"{caption} Of the best epoch: {about_scores({place: best})}")
        groups = {place: group for place, group in compared.items() if len(group) > 1}
        if any(group.trainable_parameters.nunique() > 1 for group in groups.values()):
            caption = (
                f"{title}: the score beside trainable parameters and the seconds of a run, of runs on the machine that "
                "made most of them."
            )
            by_name[f"{table}.cost"] = Drawing(
                partial(_costs, groups, rows, width), f"{caption} {about_scores(groups)}"
            )
    return by_name


def place_and_file(names: Names, table: str, task: str, model: str, profile: str) -> tuple[str, str]:
    """What the figure of a `GROUP` of a table is called in print, and how its files are."""
    place = [names.task(task), names.model(model), profile]
    return ", ".join(filter(None, place)), ".".join(filter(None, [table, task, model, profile]))


def rows_of(cells: DataFrame, names: Names) -> Rows:
    """The display name and the look of each row of all tables."""
    return {row: (names.row(row), look) for row, look in looks(cells.row).items()}


def _curves_of(runs: DataFrame, metric: str) -> Curves:
    curves: Curves = {}
    for row, group in runs.groupby("row", sort=False):
        released = curve(group.task.iloc[0], group.model.iloc[0], str(row), metric)
        scores = [dev_scores(run.history, metric) for run in group.run]
        curves[str(row)] = released, [own for own in scores if own]
    return curves


def _curves(place: str, cells: DataFrame, curves: Curves, rows: Rows, width: float) -> Figure:
    """The dev score of each epoch: thin lines are seeds, thick lines their mean, grey lines the authors' runs."""
    layout = Layout(width, 1, 1)
    ((axes,),) = layout.panels
    drawn = [score for points, by_seed in curves.values() for score in chain(*by_seed, (score for _, score in points))]
    for order, (row, (released, by_seed)) in enumerate(curves.items()):
        label, look = rows[row]
        if released:
            style = {"color": GREY, "linestyle": look["linestyle"], "linewidth": 2, "zorder": 1}
            axes.plot(*zip(*released, strict=True), **style, label=f"{label}, authors")
        for scores in by_seed:
            axes.plot(range(1, len(scores) + 1), scores, color=look["color"], linewidth=0.5, alpha=0.4, zorder=2)
        if by_seed:
            shortest = min(map(len, by_seed))
            mean = np.mean([scores[:shortest] for scores in by_seed], axis=0)
            apart = max(1, min(len(curves), shortest // 2))  # so that lines which coincide have markers of both
            style = {**look, "linewidth": 1.3, "markersize": 4, "markevery": (order % apart, apart)}
            axes.plot(range(1, shortest + 1), mean, **style, label=label, zorder=3)
    set_scores([(axes, cells)], drawn)
    axes.set(title=f"{place}: dev", xlabel="epoch", ylabel=f"{METRICS[cells.metric.iloc[0]]}, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return layout.finish(*legend_of([axes]))


def _sensitivity_of(title: str, place: str, cells: DataFrame, rows: Rows, setting: str, width: float) -> Drawing:
    shown = cells[cells.quantity.isin([DEV[0], unselected(cells.quantity)])]
    parts = {SPLITS[name]: own for name, own in shown.groupby("quantity", sort=False)}
    caption = f"{title}: {place}, the score at each value of {setting}. {about_scores(parts)}"
    return Drawing(partial(_sensitivity, place, shown, rows, setting, width), caption)


def _sensitivity(place: str, cells: DataFrame, rows: Rows, setting: str, width: float) -> Figure:
    """The score at each value of a sweep: best dev, and a split that selected nothing if there is one."""
    quantities = dict.fromkeys(cells.quantity)
    shape = (1, len(quantities)) if width >= PAGE else (len(quantities), 1)
    layout = Layout(width, *shape, share="all")
    values = sorted({*cells.value.astype(float)})
    shown = list(dict.fromkeys(cells.row))
    panels = []
    for axes, quantity in zip(layout.panels.flat, quantities, strict=True):
        scores = cells[cells.quantity == quantity].assign(x=lambda points: points.value.astype(float))
        for order, row in enumerate(shown):
            points = scores[scores.row == row].sort_values("x")
            label, look = rows[row]
            style = {**look, **BARS, "transform": dodged(axes, order, len(shown)), "label": label}
            axes.errorbar(points.x, points["mean"], points["std"].fillna(0), **style)
        set_swept_values(axes, values)
        axes.set(xlabel=setting, title=f"{place}: {SPLITS[quantity]}")
        panels.append((axes, scores))
    set_scores(panels)
    for axes in layout.panels[:, 0]:
        axes.set_ylabel(f"{METRICS[cells.metric.iloc[0]]}, %")
    return layout.finish(*legend_of(layout.panels.flat))


def _costs(groups: Mapping[str, DataFrame], rows: Rows, width: float) -> Figure:
    """The score, on a split that selected nothing if there is one, against trainable parameters and seconds."""
    layout = Layout(width, len(groups), 2, share="row")
    for (left, right), (place, group) in zip(layout.panels, groups.items(), strict=True):
        shown = list(dict.fromkeys(group.row))
        is_timed = group.hardware == group.hardware.mode().iloc[0]
        parameters = group.trainable_parameters.astype(int)
        left.set_xscale("log")
        left.set_xlim(parameters.min() / 2, parameters.max() * 2)
        left.minorticks_off()
        left.xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k, 1M
        for order, row in enumerate(shown):
            points = group[group.row == row]
            label, look = rows[row]
            style = {**look, **BARS, "linestyle": "none", "label": label}
            mean, std = points["mean"], points["std"].fillna(0)
            aside = dodged(left, order, len(shown))
            left.errorbar(parameters[points.index], mean, std, **style, transform=aside)
            right.errorbar(points.seconds_mean.where(is_timed), mean, std, points.seconds_std.fillna(0), **style)
        set_scores([(left, group), (right, group)])
        quantity = group.quantity.iloc[0]
        left.set(xlabel="trainable parameters", ylabel=f"{METRICS[group.metric.iloc[0]]}, %")
        right.set(xlabel="seconds of a run", xlim=(0, None))
        left.set_title(f"{place}: {SPLITS[quantity]}", loc="left")
    return layout.finish(*legend_of(layout.panels.flat))


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
            draw = partial(_slots, place, shown, over_seeds(own), rows, x, width)
            by_name[f"{name}{SUFFIX}"] = Drawing(draw, caption)
    return by_name


def _slots(place: str, cells: DataFrame, numbers: DataFrame, rows: Rows, setting: str, width: float) -> Figure:
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
