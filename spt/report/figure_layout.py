"""What the figures of the report share: margins, legends, baselines, and axes that do not make noise look large."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from pandas import DataFrame
from scipy.stats import t

from spt.figure_style import GREY
from spt.records.bootstrap import CONFIDENCE
from spt.report.number_format import BASELINES, listed, number

BASELINE_DASHES = ((0, (6, 3)), (0, (1, 2)))

PANEL = 1.75  # inches: the height of a panel

INTERVALS = 3  # the span of an axis of scores, in widths of a seed interval, at least

BARS = {"capsize": 1.5, "markersize": 3.5, "linewidth": 1.1, "elinewidth": 0.8}


class Drawing(NamedTuple):
    """A function that draws a figure, and the caption."""

    draw: Callable[[], Figure]
    caption: str


class Layout:
    """An empty figure of a width, in inches, with panels and room for a title above and a legend below.

    The margins are fixed: Matplotlib's layout engines take as long as drawing.
    """

    def __init__(self, width: float, rows: int, columns: int, share: Literal["none", "all", "row"] = "none") -> None:
        self.figure, self._width = Figure(figsize=(width, 1)), width
        self._rows, self._columns = rows, columns
        self.panels: Any = self.figure.subplots(rows, columns, sharey=share, squeeze=False)
        self._gap = (
            0.6 if share == "none" else 0.2
        )  # of columns; those with one axis of scores have no labels between them

    def finish(self, handles: Sequence[Any], labels: Sequence[str], below: float = 0.42) -> Figure:
        """Set the sizes, with a legend and as many inches `below` each panel for its labels."""
        room, lengths = self._width - 0.2, [0.55 + 0.062 * len(label) for label in labels]
        columns = len(labels) if sum(lengths) <= room else max(1, int(room / max(lengths)))
        rows = ceil(len(labels) / max(1, columns))
        columns, legend = ceil(len(labels) / max(1, rows)), 0.152 * rows + 0.1 * bool(rows)
        top, left, right, between = 0.28, 0.55, 0.12, below + 0.3
        height = top + self._rows * PANEL + (self._rows - 1) * between + below + legend
        self.figure.set_size_inches(self._width, height)
        inside = (self._width - left - right - (self._columns - 1) * self._gap) / self._columns
        self.figure.subplots_adjust(
            left=left / self._width,
            right=1 - right / self._width,
            bottom=(below + legend) / height,
            top=1 - top / height,
            wspace=self._gap / inside,
            hspace=between / PANEL,
        )
        if labels:
            style: dict[str, Any] = {"ncols": columns, "labelspacing": 0.3, "columnspacing": 1.2, "borderaxespad": 0.2}
            self.figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0), **style)
        return self.figure


def dodged(axes: Any, place: int, of: int, points: float = 3.0) -> Any:
    """A transform of the data that moves one of several rows aside, so that equal values do not hide each other."""
    moved = ScaledTranslation((place - (of - 1) / 2) * points / 72, 0, axes.figure.dpi_scale_trans)
    return axes.transData + moved


def legend_of(panels: Any) -> tuple[list[Any], list[str]]:
    """The handles and labels of all axes, each label once, baselines last."""
    by_label: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            by_label.setdefault(label, handle)
    labels = sorted(by_label, key=lambda label: label in BASELINES.values())
    return [by_label[label] for label in labels], labels


def seed_interval(cells: DataFrame) -> float:
    """The median width of the 95 % t-intervals of means over seeds, in points; NaN if no cell has two seeds."""
    known = cells[cells.n > 1]
    return float((2 * t.ppf((1 + CONFIDENCE) / 2, known.n - 1) * known["std"] / np.sqrt(known.n)).median())


def set_scores(panels: Sequence[tuple[Any, DataFrame]], further: Sequence[float] = ()) -> None:
    """Draw the baselines that would not double the axis of scores, and lengthen it so that noise looks small.

    It spans `INTERVALS` seed intervals and two points at least.

    Args:
        panels: axes that share their y, each with the rows of the `cells_frame` whose scores were drawn on it.
        further: scores that were drawn too.
    """
    every = pd.concat([cells for _, cells in panels])
    drawn = [*(every["mean"] - every["std"].fillna(0)), *(every["mean"] + every["std"].fillna(0)), *further]
    low, high = min(drawn), max(drawn)
    longest = 2 * max(high - low, INTERVALS)
    for axes, cells in panels:
        for (name, label), dashes in zip(BASELINES.items(), BASELINE_DASHES, strict=True):
            for score in cells[name].dropna().head(1):
                if max(high, score) - min(low, score) <= longest:
                    low, high = min(low, score), max(high, score)
                    axes.axhline(score, color=GREY, linestyle=dashes, linewidth=0.9, label=label, zorder=0)
    width = seed_interval(every)
    least = 2.0 if pd.isna(width) else max(2.0, INTERVALS * width)
    missing = max(0.0, least - (high - low)) / 2
    margin = 0.04 * (high - low + 2 * missing)
    above = max(0.0, high + missing + margin - 101)
    panels[0][0].yaxis.get_major_locator().set_params(nbins=6, steps=[1, 2, 5, 10])
    panels[0][0].set_ylim(low - missing - margin - above, high + missing + margin - above)


def about_scores(parts: Mapping[str, DataFrame]) -> str:
    """What a caption says of the scores in parts of a figure: how wide a seed interval is, and baselines."""
    seeds = listed(sorted({*pd.concat(parts.values()).n}))
    widths = {name: number(width, 1) for name, cells in parts.items() if not pd.isna(width := seed_interval(cells))}
    lines = {
        name: ", ".join(
            f"{BASELINES[each]} {number(known.iloc[0])}" for each in BASELINES if len(known := cells[each].dropna())
        )
        for name, cells in parts.items()
    }
    sentences = [f"Scores are in percent, mean ± sample standard deviation over {seeds} seeds."]
    if widths:
        sentences.append(f"The median 95 % interval of a mean over seeds is {_of_parts(widths, parts)} points wide.")
    if any(lines.values()):
        sentences.append(f"Grey lines, where the axis reaches so far: {_of_parts(lines, parts)}.")
    return " ".join(sentences)


def _of_parts(texts: Mapping[str, str], parts: Mapping[str, Any]) -> str:
    """The text of the only part, or of each with its name."""
    if len(parts) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{text} ({name})" for name, text in texts.items() if text)


def set_swept_values(axes: Any, values: list[float]) -> None:
    """Put the values of a sweep, in ascending order and not below 0, on a logarithmic axis; 0 has a place on it."""
    lowest = min((value for value in values if value > 0), default=1.0)
    margin = max(values[-1] / lowest, 10.0) ** 0.08
    if values[0] <= 0:
        axes.set_xscale("symlog", linthresh=lowest)
        axes.set_xlim(-0.3 * lowest, max(values[-1], lowest) * margin)
    else:
        axes.set_xscale("log")
        axes.set_xlim(lowest / margin, values[-1] * margin)
    small = {value: np.format_float_scientific(value, trim="-", exp_digits=1) for value in values if 0 < value < 0.001}
    axes.set_xticks(values, [small.get(value, f"{value:g}") for value in values])
    axes.minorticks_off()
