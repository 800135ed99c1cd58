"""An insight as two short tables for the terminal: the layers, and the interventions."""

from collections.abc import Iterator

from rich.table import Table

from spt.insight.result import Insight
from spt.insight.summary_rows import intervention_rows, layer_columns


def tables(insight: Insight) -> Iterator[Table]:
    """The layers, with means over heads, and if there are any the interventions: scores in percent, and differences."""
    columns = layer_columns(insight)
    table = table_of_numbers("layer", *columns)
    for layer, row in enumerate(zip(*columns.values(), strict=True)):
        name = str(layer) if layer < insight.layers else "mean"
        table.add_row(name, *(f"{value:.3f}" for value in row), end_section=layer == insight.layers - 1)
    yield table
    if (made := insight.interventions) is not None:
        table = table_of_numbers("intervention", made.metric, f"{made.compared} −\nfull adapter", "95 %\ninterval")
        for place, cells in enumerate(intervention_rows(made)):
            table.add_row(*cells, end_section=place == 0)
        yield table


def table_of_numbers(first: str, *others: str) -> Table:
    """A table without lines: a column of names, and columns of numbers, aligned to the right."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
