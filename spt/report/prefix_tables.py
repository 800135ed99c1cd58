"""The tables of what the prefixes learned: similarity of slots beside the score, and measures on data by layer."""

from typing import Any

from pandas import DataFrame

from spt.report.number_format import NONE, QUANTITIES, mean_and_std
from spt.report.prefix_frame import ON_DATA, SIMILARITY, over_seeds
from spt.report.render_templates import notes
from spt.report.runs_frame import CELL, GROUP, each_row
from spt.report.seed_means import unselected
from spt.report.table_model import Column, Table, columns

SIMILARITY_OF_SLOTS = "Similarity of slots"
HEADING = "What the prefixes learned"
MATRICES = {"key": "keys", "value": "values"}


def prefix_tables(cells: DataFrame, prefixes: DataFrame) -> list[Table]:
    """The tables for which there are numbers.

    Args:
        cells: the `cells_frame` of a table.
        prefixes: its `prefix_frame`.
    """
    tables = [_similarity(cells, prefixes), _on_data(cells, prefixes)] if len(prefixes) else []
    return [table for table in tables if table.rows]


def scored(cells: DataFrame) -> DataFrame:
    """The row of each cell that has the score to compare by: of a split that selected nothing, if the runs have one."""
    done = cells[cells.n > 0]
    return done[done.quantity == done.groupby(GROUP).quantity.transform(unselected)]


def _similarity(cells: DataFrame, prefixes: DataFrame) -> Table:
    """A row per cell: its score, and the means over layers of keys and of values."""
    numbers = over_seeds(prefixes[prefixes.measure.isin(list(SIMILARITY))])
    swept = list(cells.setting[cells.setting != ""])
    rows = []
    for cell in each_row(scored(cells)):
        keys = [(cell.profile, cell.cell, measure, matrix) for measure in SIMILARITY for matrix in MATRICES]
        if not any(key in numbers.index for key in keys):
            continue
        texts = [_text(numbers, key) for key in keys]
        place = [cell.model, cell.task, _row(cell), *([cell.value] if swept else [])]
        score = f"{mean_and_std(cell.mean, cell.std)} ({cell.n})"
        rows.append([*place, QUANTITIES[cell.quantity], score, *texts])
    heads = columns("model", "task", "row", *swept[:1], "of", "score")
    for measure in SIMILARITY.values():
        heads += columns(*MATRICES.values(), group=measure)
    return Table(SIMILARITY_OF_SLOTS, heads, rows, notes("similarity"))


def _on_data(cells: DataFrame, prefixes: DataFrame) -> Table:
    """A row per cell and measure: the layers, and their mean."""
    own = prefixes[prefixes.measure.isin(list(ON_DATA))]
    by_layer, overall = over_seeds(own, "layer"), over_seeds(own)
    layers = sorted({*own.layer})
    swept = list(cells.setting[cells.setting != ""])
    rows = []
    for cell in each_row(cells.drop_duplicates(CELL)):
        for measure, label in ON_DATA.items():
            key = (cell.profile, cell.cell, measure, "")
            if key in overall.index:
                place = [cell.model, cell.task, _row(cell), *([cell.value] if swept else []), label]
                texts = [_text(by_layer, (*key, layer)) for layer in layers]
                rows.append([*place, str(overall.n[key]), *texts, _text(overall, key)])
    heads = [*columns("model", "task", "row", *swept[:1], "measure", "n"), *columns(*map(str, layers), group="layer")]
    return Table("Attention to the slots", [*heads, Column("mean")], rows, notes("attention_to_slots"))


def _row(cell: Any) -> str:
    return ", ".join(filter(None, [cell.row, cell.shown_profile]))


def _text(numbers: DataFrame, key: tuple[Any, ...]) -> str:
    return mean_and_std(numbers["mean"][key], numbers["std"][key], 3) if key in numbers.index else NONE
