"""The rows of the two short tables of an insight, of the layers and of the interventions, for terminal and page."""

from spt.console import percent
from spt.insight.result import Insight, Intervention, Interventions

HEADINGS = {  # of the measures by layer, in this order; a line break may be a space
    "mean_abs_cosine_keys": "|cos|\nkeys",
    "mean_abs_cosine_values": "|cos|\nvalues",
    "effective_rank_keys": "rank\nkeys",
    "effective_rank_values": "rank\nvalues",
    "prefix_mass": "prefix\nmass",
    "slot_information": "slot\ninfo",
    "slots_used": "slots\nused",
    "label_information": "label\ninfo",
    "gate_mean": "gate\nmean",
    "gate_within": "gate\nwithin",
    "gate_between": "gate\nbetween",
}

OF_ONE_RUN = [name for name in HEADINGS if name not in ("gate_within", "gate_between")]

NAMES = {
    "without_slot": "without slot {}",
    "without_layer": "without layer {}",
    "keep": "kept slots of a layer: {}",
    "gate_off": "gate off",
    "gate_fixed": "gate fixed at its mean",
}


def layer_columns(insight: Insight) -> dict[str, list[float]]:
    """Means over heads for each layer, then the mean over layers, by the column's heading."""
    by_layer = insight.by_layer()
    return {HEADINGS[name]: [*by_layer[name][0], by_layer[name][0].mean()] for name in OF_ONE_RUN if name in by_layer}


def intervention_rows(interventions: Interventions) -> list[tuple[str, str, str, str]]:
    """Name, score in percent, difference to the full adapter in points, and its interval, the full adapter first."""
    changed = [
        (intervention_name(change), percent(change.score), _points(change.difference), _interval(change))
        for change in interventions.changes
    ]
    return [("full adapter", percent(interventions.score), "", ""), *changed]


def intervention_name(change: Intervention) -> str:
    """What an intervention changes, in words."""
    return NAMES[change.kind].format(change.which)


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _interval(change: Intervention) -> str:
    return f"{_points(change.low)} to {_points(change.high)}"
