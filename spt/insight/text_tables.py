"""The attention of a text as tables for the terminal: a row for each token, a column for each layer."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from spt.insight.text_attention import SequenceAttention, TextAttention
from spt.insight.text_view import colours, level, token_rows


def text_tables(attention: TextAttention) -> Iterator[Table]:
    """For each sequence a table of its gates, if there are any, and one of its attention on the prefix, in percent."""
    for sequence in attention.sequences:
        of = "" if sequence.name is None else f" ({sequence.name})"
        if sequence.gate is not None:
            yield _by_layer(f"mean gate, %, by layer{of}", sequence, of_gate=True)
        yield _by_layer(f"attention on the prefix, %, by layer{of}", sequence, of_gate=False)


def _by_layer(title: str, sequence: SequenceAttention, of_gate: bool) -> Table:
    layers = range(len(sequence.slot_weights))
    columns = [token_rows(sequence, [layer]) for layer in layers] + [token_rows(sequence, layers)]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 0))
    table.add_column("token ")
    for name in [*map(str, layers), "mean"]:
        table.add_column(f" {name} ", justify="right")
    table.add_column("  widest open layer:slot" if of_gate else "  most to layer:slot")
    for rows in zip(*columns, strict=True):
        shown = [(row.gate or 0.0) if of_gate else row.prefix for row in rows]
        cells = [_cell(share) for share in shown]
        mean = rows[-1]
        slots = (
            [f"{each.layer}:{each.slot} {100 * (each.gate or 0.0):.0f}" for each in mean.opened]
            if of_gate
            else [f"{each.layer}:{each.slot} {100 * each.share:.1f}" for each in mean.used]
        )
        table.add_row(Text(f"{mean.token} "), *cells, "  " + ", ".join(slots))
    return table


def _cell(share: float) -> Text:
    background, colour = colours(level(share))
    return Text(f" {100 * share:3.0f} ", style=f"{colour} on {background}")
