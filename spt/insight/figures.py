"""The figures of an insight: heads, slots against each other, the training, and interventions."""

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Normalize
from matplotlib.figure import Figure

from spt.figure_style import COLOURS
from spt.insight.result import MATRICES, Array, Insight, Intervention, Interventions
from spt.insight.summary_rows import intervention_name

SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"  # both are readable without red-green vision

BAR = 1.1  # inches: the margin at the right with a colour bar

CELL = 0.36  # inches: a cell of a layer and a head

ANNOTATED = 12  # layers and heads, up to which cells have their number

NAMES = (
    *("prefix_mass", "slot_information", "label_information"),
    *("cosine_key", "cosine_value", "training", "kept_slots", "interventions"),
)

Draw = Callable[[], Figure]


def drawings(insight: Insight, epochs: list[dict[str, Any]]) -> dict[str, Draw]:
    """The figures of an insight, and of its run's training where there are epochs: a function that draws, by name.

    The names are some of `NAMES`, in their order.
    """
    title = " ".join(filter(None, (insight.task, insight.split)))

    def heading(text: str) -> str:
        return f"{text}\n{title}" if title else text

    functions: dict[str, Draw] = {
        "prefix_mass": partial(_heads, heading("Attention on the prefix"), "share of attention", insight.prefix_mass),
        "slot_information": partial(_heads, heading("Slot information"), "nats", insight.slot_information),
    }
    if insight.label_information is not None:
        functions["label_information"] = partial(
            _heads, heading("Label information"), "nats", insight.label_information
        )
    for matrix, kind in enumerate(MATRICES):
        functions[f"cosine_{kind}"] = partial(_cosines, f"Cosine of {kind} slots", insight.cosine.values[:, matrix])
    if epochs:
        functions["training"] = partial(_training, epochs)
    if insight.interventions is not None:
        functions["kept_slots"] = partial(_kept_slots, heading("Kept slots of a layer"), insight.interventions)
        functions["interventions"] = partial(_interventions, heading("Interventions"), insight.interventions)
    return functions


def compared_cosines(insights: Mapping[str, Insight]) -> dict[str, Draw]:
    """The figures of slots against each other of several insights, which are named: a row each, on one scale."""
    return {
        f"cosine_{kind}": partial(
            _compared_cosines,
            f"Cosine of {kind} slots",
            {name: insight.cosine.values[:, matrix] for name, insight in insights.items()},
        )
        for matrix, kind in enumerate(MATRICES)
    }


def _figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **margins: float
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, [rows, columns], with margins in inches.

    `width` and `height` are those of all axes with the gaps between them, which are 0.25 inches wide and 0.4 high.
    """
    space = {"left": 0.6, "right": 0.2, "bottom": 0.5, "top": 0.55} | margins
    whole = (width + space["left"] + space["right"], height + space["bottom"] + space["top"])
    figure = Figure(figsize=whole)
    figure.subplots_adjust(
        left=space["left"] / whole[0],
        right=1 - space["right"] / whole[0],
        bottom=space["bottom"] / whole[1],
        top=1 - space["top"] / whole[1],
        wspace=0.25 / ((width + 0.25) / columns - 0.25),
        hspace=0.4 / ((height + 0.4) / rows - 0.4),
    )
    return figure, figure.subplots(rows, columns, squeeze=False)


def _colour_bar(figure: Figure, colours: ScalarMappable, label: str) -> None:
    """A colour bar at the right of all axes, in the margin there."""
    whole, box = figure.get_figwidth(), figure.subplotpars
    place = figure.add_axes(((whole - BAR + 0.2) / whole, box.bottom, 0.12 / whole, box.top - box.bottom))
    figure.colorbar(colours, cax=place, label=label)


def _heads(title: str, unit: str, measure: Array) -> Figure:
    """A heatmap of layers and heads, from 0 (or below, where an estimate is) to the highest value."""
    values = measure.values
    layers, heads = values.shape
    figure, ((axes,),) = _figure(max(CELL * heads, 1.6), max(CELL * layers, 1.0), right=BAR)
    image = axes.imshow(values, SEQUENTIAL, vmin=min(0.0, values.min()), interpolation="none", aspect="auto")
    image.set_clim(vmax=max(values.max(), image.norm.vmin + 1e-9))
    axes.set(xlabel="head", ylabel="layer", title=title)
    axes.set_xticks(_some(heads))
    axes.set_yticks(_some(layers))
    axes.spines[:].set_visible(False)
    if max(layers, heads) <= ANNOTATED:
        for (layer, head), value in np.ndenumerate(values):
            colour = "black" if image.norm(value) > 0.55 else "white"
            text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)
            axes.text(head, layer, text, ha="center", va="center", color=colour, fontsize=7)
    _colour_bar(figure, image, unit)
    return figure


def _cosines(title: str, cosine: np.ndarray) -> Figure:
    """A matrix for each layer, [layers, P, P], slot against slot, all on the scale from −1 to 1."""
    layers, slots, _ = cosine.shape
    columns = min(4, layers)
    rows = ceil(layers / columns)
    sizes = (1.85 * columns - 0.25, 2.0 * rows - 0.4)
    figure, panels = _figure(*sizes, rows, columns, right=BAR, top=0.65)
    scale = Normalize(-1, 1)
    for layer, axes in enumerate(panels.flat):
        if layer >= layers:
            axes.set_visible(False)
            continue
        axes.imshow(cosine[layer], DIVERGING, norm=scale, interpolation="none", aspect="auto")
        axes.set_title(f"layer {layer}", fontsize=8, pad=3)
        is_lowest = layer + columns >= layers
        axes.set_xticks(_some(slots, 5), _some(slots, 5) if is_lowest else [])
        axes.set_yticks(_some(slots, 5), _some(slots, 5) if layer % columns == 0 else [])
        axes.set(xlabel="slot" if is_lowest else "", ylabel="slot" if layer % columns == 0 else "")
        axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize="large")
    _colour_bar(figure, ScalarMappable(scale, DIVERGING), "cosine")
    return figure


def _compared_cosines(title: str, cosines: Mapping[str, np.ndarray]) -> Figure:
    """A row for each name and a column for each layer of the matrices [layers, P, P], on the scale from −1 to 1."""
    layers = max(map(len, cosines.values()))
    sizes = (1.25 * layers - 0.25, 1.4 * len(cosines) - 0.4)
    figure, panels = _figure(*sizes, len(cosines), layers, left=0.35, right=BAR, top=0.75)
    scale = Normalize(-1, 1)
    for row, ((name, matrices), own) in enumerate(zip(cosines.items(), panels, strict=True)):
        for layer, axes in enumerate(own):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if layer < len(matrices):
                axes.imshow(matrices[layer], DIVERGING, norm=scale, interpolation="none", aspect="auto")
            if row == 0:
                axes.set_xlabel(f"layer {layer}", fontsize=8)
                axes.xaxis.set_label_position("top")
        own[0].set_title(name, fontsize=8, loc="left", pad=16 if row == 0 else 3)
    figure.suptitle(title, fontsize="large")
    _colour_bar(figure, ScalarMappable(scale, DIVERGING), "cosine")
    return figure


def _training(epochs: list[dict[str, Any]]) -> Figure:
    """Mean |cos| and effective rank of keys and values of each layer, from the initialisation (epoch 0) on."""
    figure, panels = _figure(5.6, 4.2, 2, 2, right=BAR)
    numbers = [row["epoch"] for row in epochs]
    layers = len(epochs[0]["prefixes"]["effective_rank"]["key"])
    scale = BoundaryNorm(np.arange(layers + 1) - 0.5, 256)
    colours = ScalarMappable(scale, SEQUENTIAL)
    by_layer = colours.to_rgba(np.arange(layers))
    for axes_of_measure, (name, label) in zip(
        panels, (("mean_abs_cosine", "mean |cos|"), ("effective_rank", "effective rank")), strict=True
    ):
        left, right = axes_of_measure
        right.sharey(left)
        right.tick_params(labelleft=False)
        left.set_ylabel(label)
        for axes, kind in zip(axes_of_measure, MATRICES, strict=True):
            curves = np.array([row["prefixes"][name][kind] for row in epochs])
            for layer, curve in enumerate(curves.T):
                axes.plot(numbers, curve, color=by_layer[layer], linewidth=1.2, marker="o", markersize=2)
            axes.set_title(f"{kind} slots")
            axes.xaxis.get_major_locator().set_params(integer=True)
        left.set_ylim(bottom=0)
    for axes in panels[1]:
        axes.set_xlabel("epoch")
        axes.set_title("")
    _colour_bar(figure, colours, "layer")
    figure.axes[-1].set_yticks(_some(layers))
    figure.suptitle("Similarity of slots over the training", fontsize="large")
    return figure


def _kept_slots(title: str, interventions: Interventions) -> Figure:
    """The difference to the full adapter when only the most used slots of each layer are kept, with its interval.

    If the differences are of the score itself, it stands at the right.
    """
    kept = [change for change in interventions.changes if change.kind == "keep"]
    is_score = interventions.compared == interventions.metric
    figure, ((axes,),) = _figure(3.6, 2.4, left=0.8, right=0.8 if is_score else 0.2)
    counts = [int(change.which or 0) for change in kept]
    values, errors = _differences(kept)
    axes.errorbar(counts, values, errors, color=COLOURS[0], marker="o", markersize=4, capsize=2)
    axes.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlim(left=-0.3)
    axes.set(title=title, xlabel="kept slots of each layer", ylabel=_difference(interventions))
    if is_score:
        full = 100 * interventions.score
        right = axes.secondary_yaxis("right", functions=(lambda points: points + full, lambda score: score - full))
        right.set_ylabel(f"{interventions.metric}, %")
    return figure


def _interventions(title: str, interventions: Interventions) -> Figure:
    """The difference to the full adapter with its interval, a colour for each kind; kept slots are left out."""
    shown = [change for change in interventions.changes if change.kind != "keep"]
    figure, ((axes,),) = _figure(3.8, max(0.17 * len(shown), 1.0), left=1.6)
    kinds = list(dict.fromkeys(change.kind for change in shown))
    for kind, colour in zip(kinds, COLOURS, strict=False):
        places = [place for place, change in enumerate(shown) if change.kind == kind]
        own = [shown[place] for place in places]
        values, errors = _differences(own)
        style = {"fmt": "o", "color": colour, "markersize": 3.5, "elinewidth": 1, "capsize": 1.5}
        axes.errorbar(values, places, xerr=errors, **style)
    axes.axvline(0, color="#999999", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(shown)), [intervention_name(change) for change in shown], fontsize=7.5)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set(title=title, xlabel=_difference(interventions))
    return figure


def _differences(shown: list[Intervention]) -> tuple[np.ndarray, np.ndarray]:
    """Differences in points, [n], and the lengths of their intervals below and above them, [2, n]."""
    values = 100 * np.array([change.difference for change in shown])
    low, high = (100 * np.array([getattr(change, limit) for change in shown]) for limit in ("low", "high"))
    return values, np.maximum([values - low, high - values], 0)


def _difference(interventions: Interventions) -> str:
    return f"{interventions.compared} − full adapter, points"


def _some(count: int, most: int = 13) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced from 0."""
    return list(range(0, count, ceil(count / most)))
