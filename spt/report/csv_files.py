"""The CSV file of a table: `cells_frame` with fixed columns and four digits."""

from typing import Any

import pandas as pd
from pandas import DataFrame, Series

from spt.report.number_format import also_published
from spt.report.runs_frame import SIGNS

COLUMNS = (
    *("cell", "profile", "table", "model", "task", "row", "setting", "value", "quantity", "metric", "examples"),
    *("published", "published_source", "published_split", "published_selection", "published_seed", "published_note"),
    *("published_elsewhere", "state", "ours_mean", "ours_std", "n", "planned", "ours_min", "ours_max"),
    *("delta", "tolerance", "within", "learning_rate", "scores_by_seed", "runs"),
    *SIGNS,
    *("trainable_parameters", "seconds_mean", "peak_memory_bytes", "adapter_bytes"),
    "hardware",
)

DIGITS = {"ours_mean": 4, "ours_std": 4, "ours_min": 4, "ours_max": 4, "delta": 4, "tolerance": 4, "seconds_mean": 1}


def csv_text(cells: DataFrame) -> str:
    """A line per row of a `cells_frame`, with the columns `COLUMNS`; an unknown value is an empty field."""
    table = cells.rename(columns={name: f"ours_{name}" for name in ("mean", "std", "min", "max")})
    table = table.assign(
        published=cells.references.map(lambda rows: rows[0]["value"] if rows else None),
        published_elsewhere=cells.references.map(lambda rows: "; ".join(map(also_published, rows[1:]))),
        scores_by_seed=cells.scores.map(_scores),
        runs=cells.folders,
        examples=cells.examples.astype("Int64"),
        **{
            f"published_{name}": cells.references.map(lambda rows, name=name: rows[0][name] if rows else None)
            for name in ("source", "split", "selection", "seed", "note")
        },
        **{name: _yes_or_no(cells[name]) for name in ("within", *SIGNS)},
    )
    for name, digits in DIGITS.items():
        table[name] = table[name].map(f"{{:.{digits}f}}".format, na_action="ignore")
    return table.to_csv(columns=list(COLUMNS), index=False, lineterminator="\n")


def _scores(scores: Any) -> str:
    return " ".join(f"{seed}:{score:.4f}" for seed, score in scores.items()) if isinstance(scores, dict) else ""


def _yes_or_no(column: Series) -> Series:
    return column.map(lambda value: None if pd.isna(value) else "yes" if value else "no")
