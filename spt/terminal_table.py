"""Print a table so that no word and no number in it breaks, however narrow the terminal is."""

import os
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDE = 10_000


def plain_table() -> Table:
    """A table without columns, with a rule under its headers and no other lines."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def print_table(table: Table, optional: Sequence[str] = ()) -> None:
    """Print a table on standard output.

    Args:
        table: columns with `no_wrap` have whole lines, others may wrap between words. It is changed.
        optional: headers of columns to leave out, in this order, where the terminal is too narrow; a line below names
            them.
    """
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    for column in table.columns:
        texts = [str(text) for text in (column.header, *column.cells)]
        pieces = [piece for text in texts for piece in (text.splitlines() if column.no_wrap else text.split())]
        column.min_width = max(map(cell_len, pieces), default=0)
    left_out = []
    for name in optional:
        if _least_width(table, console) <= console.width:
            break
        for column in [each for each in table.columns if each.header == name]:
            table.columns.remove(column)
            left_out.append(name.replace("\n", " "))
    console.width = max(console.width, _least_width(table, console))
    console.print(table)
    if left_out:
        console.print(f"not shown at this width: {', '.join(left_out)}")


def _least_width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=WIDE), table).minimum
