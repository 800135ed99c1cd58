"""An insight as two short tables for the terminal: the layers, and the interventions."""

from collections.abc import Iterator

from rich.table import Table

from spt.console import percent
from spt.insight.result import Insight, Intervention, Measure

NAMES = {
    "without_slot": "without slot {}",
    "without_layer": "without layer {}",
    "keep": "kept slots of a layer: {}",
    "gate_off": "gate off",
    "gate_fixed": "gate fixed at its mean",
}


def tables(insight: Insight) -> Iterator[Table]:
    """The table of the layers and, if there are any, the one of the interventions."""
    yield layer_table(insight)
    if insight.interventions is not None:
        yield intervention_table(insight)


def layer_table(insight: Insight) -> Table:
    """A row for each layer, with means over heads, and one with means over layers."""
    columns: dict[str, list[float]] = {}
    for name, measure in (("|cos|", insight.mean_abs_cosine), ("rank", insight.effective_rank)):
        for matrix, kind in enumerate(("keys", "values")):
            numbers = measure.values[:, matrix]
            columns[f"{name}\n{kind}"] = [*numbers, numbers.mean()]
    columns |= {
        "prefix\nmass": _by_layer(insight.prefix_mass),
        "slot\ninfo": _by_layer(insight.slot_information),
        "slots\nused": _by_layer(insight.slots_used),
    }
    if insight.label_information is not None:
        columns["label\ninfo"] = _by_layer(insight.label_information)
    if insight.gate_mean is not None:
        columns["gate\nmean"] = _by_layer(insight.gate_mean)
    table = _table("layer", *columns)
    for layer, row in enumerate(zip(*columns.values(), strict=True)):
        name = str(layer) if layer < insight.layers else "mean"
        table.add_row(name, *(f"{value:.3f}" for value in row), end_section=layer == insight.layers - 1)
    return table


def intervention_table(insight: Insight) -> Table:
    """The score with each intervention, in percent, and its difference to the full adapter, in points."""
    found = insight.interventions
    assert found is not None
    table = _table("intervention", found.metric, f"{found.compared} −\nfull adapter", "95 %\ninterval")
    table.add_row("full adapter", percent(found.score), "", "", end_section=True)
    for change in found.changes:
        table.add_row(_name(change), percent(change.score), _points(change.difference), _interval(change))
    return table


def _by_layer(measure: Measure) -> list[float]:
    by_layer = measure.values.reshape(len(measure.values), -1).mean(1)
    return [*by_layer, float(measure.overall.values)]


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _name(change: Intervention) -> str:
    return NAMES[change.kind].format(change.which)


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _interval(change: Intervention) -> str:
    return f"{_points(change.low)} to {_points(change.high)}"
