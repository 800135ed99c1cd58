"""The rows of the two short tables of an insight, of the layers and of the interventions, for terminal and page."""

from spt.console import percent
from spt.insight.result import MATRICES, Insight, Intervention, Measure

NAMES = {
    "without_slot": "without slot {}",
    "without_layer": "without layer {}",
    "keep": "kept slots of a layer: {}",
    "gate_off": "gate off",
    "gate_fixed": "gate fixed at its mean",
}


def layer_columns(insight: Insight) -> dict[str, list[float]]:
    """Means over heads for each layer, then the mean over layers, by the column's name; a line break may be a space."""
    columns: dict[str, list[float]] = {}
    for name, measure in (("|cos|", insight.mean_abs_cosine), ("rank", insight.effective_rank)):
        for matrix, kind in enumerate(MATRICES):
            numbers = measure.values[:, matrix]
            columns[f"{name}\n{kind}s"] = [*numbers, numbers.mean()]
    columns |= {
        "prefix\nmass": _by_layer(insight.prefix_mass),
        "slot\ninfo": _by_layer(insight.slot_information),
        "slots\nused": _by_layer(insight.slots_used),
    }
    if insight.label_information is not None:
        columns["label\ninfo"] = _by_layer(insight.label_information)
    if insight.gate_mean is not None:
        columns["gate\nmean"] = _by_layer(insight.gate_mean)
    return columns


def intervention_rows(insight: Insight) -> list[tuple[str, str, str, str]]:
    """Name, score in percent, difference to the full adapter in points, and its interval, the full adapter first."""
    found = insight.interventions
    assert found is not None
    changed = [
        (intervention_name(change), percent(change.score), _points(change.difference), _interval(change))
        for change in found.changes
    ]
    return [("full adapter", percent(found.score), "", ""), *changed]


def intervention_name(change: Intervention) -> str:
    """What an intervention changes, in words."""
    return NAMES[change.kind].format(change.which)


def _by_layer(measure: Measure) -> list[float]:
    by_layer = measure.values.reshape(len(measure.values), -1).mean(1)
    return [*by_layer, float(measure.overall.values)]


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _interval(change: Intervention) -> str:
    return f"{_points(change.low)} to {_points(change.high)}"
