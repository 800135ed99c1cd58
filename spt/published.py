"""The published numbers, row by row with source and conditions: `results/reference/published_results.csv`."""

import csv
from pathlib import Path

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"


def published(task: str, model: str, method: str) -> list[dict[str, str]]:
    """The rows of one cell: source, split, metric, value (in percent), selection, seed and note of each."""
    with (REFERENCE / "published_results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if (row["task"], row["model"], row["method"]) == (task, model, method)]
