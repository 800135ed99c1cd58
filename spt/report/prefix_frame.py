"""What the prefixes of published runs learned, as a DataFrame: from their histories, and from what was inspected."""

from collections.abc import Iterator, Sequence
from typing import Any

from pandas import DataFrame

from spt.grid.match_records import Finished
from spt.report.runs_frame import CELL, each_row, with_plain_text

# Of the parameters alone, in the history of every run with prefixes, for keys and for values.
COSINE = "mean_abs_cosine"
SIMILARITY = {COSINE: "mean |cos|", "effective_rank": "effective rank"}

# On the examples of a split, in what spt.inspect found.
ON_DATA = {
    "prefix_mass": "attention to the prefix",
    "slot_information": "slot information, nats",
    "label_information": "label information, nats",
}

DEV_SPLIT = "validation"
ABLATION = "ablation"
PLACE = ["cell", "profile", "table", "model", "task", "row", "setting", "value"]
Layers = tuple[str, str, Sequence[float]]  # measure, matrix, and a number for each layer
COLUMNS = [*PLACE, "seed", "run", "measure", "matrix", "layer", "number"]


def prefix_frame(runs: DataFrame) -> DataFrame:
    """A row per run, measure, matrix and layer, with the columns `COLUMNS`.

    `measure` is a key of `SIMILARITY` or `ON_DATA`, `matrix` "key" or "value", empty for `ON_DATA`, and `number` a mean
    over heads. Similarity is that of the best epoch; measures on data are those of runs that were inspected on dev.

    Args:
        runs: the `runs_frame` of all tables.
    """
    rows: list[dict[str, Any]] = []
    for run in each_row(runs[(runs.role == "seed") & runs.run.notna()]):
        measures = [*_similarity(run.run), *_on_data(run.run)]
        place = {name: getattr(run, name) for name in (*PLACE, "seed")} | {"run": run.folder}
        rows += [
            place | {"measure": measure, "matrix": matrix, "layer": layer, "number": number}
            for measure, matrix, numbers in measures
            for layer, number in enumerate(numbers)
        ]
    return with_plain_text(DataFrame(rows, columns=COLUMNS))


def _similarity(run: Finished) -> Iterator[Layers]:
    best, has_pairs = run.record["best_epoch"], run.record["config"]["method"].get("prefix_length", 0) > 1
    for epoch in (row for row in run.history if best is not None and row["epoch"] == best):
        for measure in SIMILARITY if has_pairs else SIMILARITY.keys() - {COSINE}:
            for matrix, layers in epoch.get("prefixes", {}).get(measure, {}).items():
                yield measure, matrix, layers


def _on_data(run: Finished) -> Iterator[Layers]:
    if run.insight is not None and run.insight.split == DEV_SPLIT:
        for measure in ON_DATA:
            if measure in run.insight.measures:
                yield measure, "", run.insight.measures[measure].means


def over_seeds(frame: DataFrame, *by: str) -> DataFrame:
    """`mean`, `std` and `n` over seeds, by cell, measure, matrix and `by`, of each run's mean over everything else."""
    keys = [*CELL, "measure", "matrix", *by]
    by_run = frame.groupby([*keys, "run"]).number.mean()
    return by_run.groupby(level=keys).agg(["mean", "std", "count"]).rename(columns={"count": "n"})


def prefix_csv(frame: DataFrame) -> str:
    """The frame as CSV, with six significant digits."""
    return frame.assign(number=frame.number.map("{:.6g}".format)).to_csv(index=False, lineterminator="\n")
