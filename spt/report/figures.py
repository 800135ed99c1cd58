"""The figures: curves, sweeps and costs, as SVG and PNG. The same results give the same files."""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, groupby
from typing import Any

import numpy as np

from spt.grid.match_records import Result
from spt.report.measured import METRICS, NAMES, cost, headline, lines, scores_of, unselected
from spt.report.published import curve
from spt.report.significance import summary

log = logging.getLogger(__name__)

# Okabe and Ito's colours, which the colour-blind can tell apart; grey is left for what is published.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

MARKERS = "osD^vPX"

DASHES = ("-", "--", ":")

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "spt",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}

ROOM = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}

Results = Sequence[Result]

Looks = dict[str, dict[str, Any]]


def figures(titles: dict[str, str], results: Results) -> dict[str, bytes]:
    """The files of all figures that there are runs for, by name.

    Args:
        titles: of the tables, by name.
        results: of all their cells.
    """
    drawn: dict[str, bytes] = {}
    for table, title in titles.items():
        own = [result for result in results if result.cell.table == table and result.done]
        if not own:
            continue
        looks = _looks(result.cell.row for result in results if result.cell.table == table)
        with _style():
            for (task, model), group in _by_place(own):
                heading = f"{title}: {task}, {model}" + (" (a demo, not a result)" if model == "demo" else "")
                if group[0].cell.point is None:
                    drawn |= _files(f"{table}.{task}.{model}.curves", _curves(heading, group, looks))
                else:
                    drawn |= _files(f"{table}.{task}.{model}.sensitivity", _sensitivity(heading, group, looks))
            if len({run.record["trainable_parameters"] for result in own for run in result.done.values()}) > 1:
                drawn |= _files(f"{table}.cost", _costs(title, own, looks))
    return drawn


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def _by_place(results: Results) -> list[tuple[tuple[str, str], list[Result]]]:
    def place(result: Result) -> tuple[str, str]:
        return result.cell.task, result.cell.model

    return [(key, list(group)) for key, group in groupby(sorted(results, key=place), key=place)]


def _files(name: str, figure: Any) -> dict[str, bytes]:
    """A figure's two files. Neither says when or by what it was made."""
    files = {}
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        file = io.BytesIO()
        figure.savefig(file, format=kind, bbox_inches="tight", metadata=metadata)
        files[f"{name}.{kind}"] = file.getvalue()
    return files


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    """An empty figure of its own, which no global state knows of, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.4 + 4 * columns, 3.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _looks(rows: Iterable[str]) -> Looks:
    """Colour, marker and dashes of each row: no two alike, and in grey as well."""
    names = list(dict.fromkeys(rows))
    looks = zip(names, cycle(COLOURS), cycle(MARKERS), strict=False)
    return {
        row: {"color": colour, "marker": marker, "linestyle": DASHES[place // len(COLOURS) % len(DASHES)]}
        for place, (row, colour, marker) in enumerate(looks)
    }


def _curves(title: str, group: Results, looks: Looks) -> Any:
    """The dev score of each epoch: thin lines are seeds, thick ones their mean; the authors' released runs are grey."""
    task, model = group[0].cell.task, group[0].cell.model
    metric = headline(task)
    figure, ((axes,),) = _figure(1, 1)
    for result in group:
        look = looks[result.cell.row]
        released = curve(task, model, result.cell.row, metric)
        if released:
            label = f"{result.cell.row}, the authors' released run"
            axes.plot(*zip(*released, strict=True), color="#999999", linewidth=2.5, label=label, zorder=1)
        runs = [[100 * row[f"dev_{metric}"] for row in run.history] for run in result.done.values()]
        runs = [run for run in runs if run]
        for run in runs:
            axes.plot(range(1, len(run) + 1), run, color=look["color"], linewidth=0.6, alpha=0.5, zorder=2)
        if runs:
            together = min(map(len, runs))
            mean = np.mean([run[:together] for run in runs], axis=0)
            label = f"{result.cell.row} (n = {len(runs)})"
            style = look | {"linewidth": 1.5, "markersize": 3.5, "markevery": max(1, together // 10)}
            axes.plot(range(1, together + 1), mean, **style, label=label, zorder=3)
    axes.set(title=title, xlabel="epoch", ylabel=f"dev {METRICS[metric]}, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(**ROOM)
    return figure


def _sensitivity(title: str, group: Results, looks: Looks) -> Any:
    """The score at each point of a sweep, mean ± standard deviation: best dev, and of a split that selected nothing."""
    figure, (panels,) = _figure(1, len(_shown(group)))
    values = sorted({float(result.cell.point[1]) for result in group if result.cell.point})
    key = next(result.cell.point[0] for result in group if result.cell.point)
    for axes, quantity in zip(panels, _shown(group), strict=True):
        for row, look in looks.items():
            found = [
                (float(r.cell.point[1]), _scores(r, quantity)) for r in group if r.cell.row == row and r.cell.point
            ]
            points = sorted((value, summary(scores)) for value, scores in found if scores)
            if points:
                spread = [ours.std or 0.0 for _, ours in points]
                means = [ours.mean for _, ours in points]
                x = [value for value, _ in points]
                axes.errorbar(x, means, spread, **look, capsize=2, markersize=4, linewidth=1.2, label=row)
        positive = [value for value in values if value > 0]
        if positive:
            axes.set_xscale("symlog", linthresh=positive[0]) if values[0] <= 0 else axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        axes.set(xlabel=key.rpartition(".")[2], ylabel=f"{METRICS[headline(group[0].cell.task)]}, %")
        axes.set_title(NAMES.get(quantity, quantity))
    panels[-1].legend(**ROOM)
    figure.suptitle(title)
    return figure


def _costs(title: str, results: Results, looks: Looks) -> Any:
    """The score, of a split that selected nothing where there is one, against trained numbers and seconds."""
    places = _by_place(results)
    figure, panels = _figure(len(places), 2)
    for (left, right), ((task, model), group) in zip(panels, places, strict=True):
        quantity = _shown(group)[-1]
        for row, look in looks.items():
            found = [(result, _scores(result, quantity)) for result in group if result.cell.row == row]
            shown = [(summary(scores), cost(result.done.values())) for result, scores in found if scores]
            for axes, of in ((left, "parameters"), (right, "seconds")):
                x = [took.parameters if of == "parameters" else took.seconds.mean for _, took in shown if took]
                wide = None if of == "parameters" else [took.seconds.std or 0.0 for _, took in shown if took]
                y, high = [ours.mean for ours, _ in shown], [ours.std or 0.0 for ours, _ in shown]
                if x:
                    style = {name: look[name] for name in ("color", "marker")}
                    axes.errorbar(x, y, high, wide, **style, linestyle="none", capsize=2, markersize=4, label=row)
        left.set_xscale("log")
        left.set(xlabel="trained numbers", title=f"{task}, {model}")
        right.set(xlabel="seconds a run", title=f"{NAMES.get(quantity, quantity)}, mean ± std")
        for axes in (left, right):
            axes.set_ylabel(f"{METRICS[headline(task)]}, %")
        right.legend(**ROOM)
    demo = " (a demo, not a result)" if any(model == "demo" for (_, model), _ in places) else ""
    figure.suptitle(f"{title}: score and cost{demo}")
    return figure


def _shown(group: Results) -> list[str]:
    """Best dev, and a split that selected nothing where there is one."""
    names = list(dict.fromkeys(line.quantity for line in lines(group) if line.scores))
    return list(dict.fromkeys(["best_dev", unselected(names)]))


def _scores(result: Result, quantity: str) -> list[float]:
    return list(scores_of(result, quantity).values())
