"""An insight as two short tables for the terminal: the layers, and the interventions."""

from collections.abc import Iterator

from rich.table import Table

from spt.insight.result import Insight
from spt.insight.summary_rows import intervention_rows, layer_columns


def tables(insight: Insight) -> Iterator[Table]:
    """The table of the layers and, if there are any, the one of the interventions."""
    yield layer_table(insight)
    if insight.interventions is not None:
        yield intervention_table(insight)


def layer_table(insight: Insight) -> Table:
    """A row for each layer, with means over heads, and one with means over layers."""
    columns = layer_columns(insight)
    table = table_of_numbers("layer", *columns)
    for layer, row in enumerate(zip(*columns.values(), strict=True)):
        name = str(layer) if layer < insight.layers else "mean"
        table.add_row(name, *(f"{value:.3f}" for value in row), end_section=layer == insight.layers - 1)
    return table


def intervention_table(insight: Insight) -> Table:
    """The score with each intervention, in percent, and its difference to the full adapter, in points."""
    interventions = insight.interventions
    assert interventions is not None
    table = table_of_numbers(
        "intervention", interventions.metric, f"{interventions.compared} −\nfull adapter", "95 %\ninterval"
    )
    for place, row in enumerate(intervention_rows(insight)):
        table.add_row(*row, end_section=place == 0)
    return table


def table_of_numbers(first: str, *others: str) -> Table:
    """A table without lines: a column of names, and columns of numbers, aligned to the right."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
