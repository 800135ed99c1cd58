"""A row per cell and quantity, mean ± standard deviation beside the published value: as a DataFrame, and as CSV."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame, Series
from scipy.stats import t

from spt.grid.cells import Cell
from spt.grid.match_records import Result
from spt.recipes import recipe_setting
from spt.records.bootstrap import CONFIDENCE
from spt.report.number_format import also_published
from spt.report.published_numbers import COMPARES_WITH, published, task_config
from spt.report.runs_frame import CELL, DEV, SCORE, SIGNS, place, with_plain_text, with_shown_profile

FEWEST_POINTS = 2  # of a sweep, from which on it has a table and a figure

CSV_COLUMNS = (
    *("cell", "profile", "table", "model", "task", "row", "setting", "value", "quantity", "metric", "examples"),
    *("published", "published_source", "published_split", "published_selection", "published_seed", "published_note"),
    *("published_elsewhere", "state", "ours_mean", "ours_std", "n", "planned", "ours_min", "ours_max"),
    *("delta", "tolerance", "within", "learning_rate", "scores_by_seed", "runs"),
    *SIGNS,
    *("trainable_parameters", "seconds_mean", "peak_memory_bytes", "adapter_bytes"),
    "hardware",
)

CSV_DIGITS = {
    "ours_mean": 4,
    "ours_std": 4,
    "ours_min": 4,
    "ours_max": 4,
    "delta": 4,
    "tolerance": 4,
    "seconds_mean": 1,
}


def cells_frame(results: Sequence[Result], runs: DataFrame) -> DataFrame:
    """A row per cell and quantity ("best_dev", "last_dev", or a further split at the best dev epoch), dev first.

    Columns, beside those that name the cell: `quantity`, `metric`, `examples` (of the split), `one_example` (its weight
    in points); `majority` and `random` (the scores of the majority class and of random classes, NaN if not known);
    `references` (the published rows it compares with, as a tuple) and `published` (the value of the first);
    `mean`, `std`, `n`, `min`, `max` and `scores` (by seed) of its runs, `delta`, `tolerance` and `within` beside the
    published value; `cell_state` (see `Result.state`) and `state` (also "diverged": no score; "published only");
    `is_reference` (see `Cell`).
    The same in each row of a cell: `planned` (number of seeds), `runs` (number of finished ones), `folders`, `marks`
    and the columns of `SIGNS`, `learning_rate`, and its costs: seconds and peak memory are of the `timed` runs on
    `hardware`, the machine that made most of them.

    Args:
        results: the cells.
        runs: their `runs_frame`.
    """
    rows = [row for result in results for row in _cell_rows(result)]
    done = runs[(runs.role == "seed") & runs.run.notna()]
    cells = DataFrame(rows).join(_scores(done), on=[*CELL, "quantity"]).join(_of_cell(done), on=CELL)
    for name in ("n", "runs", "timed"):
        cells[name] = cells[name].fillna(0).astype(int)
    for name in ("folders", "marks"):
        cells[name] = cells[name].fillna("")
    cells["delta"] = cells["mean"] - cells.published
    cells["tolerance"] = tolerance(cells["std"], cells.n, cells.one_example).where(cells.delta.notna())
    cells["within"] = (cells.delta.abs() <= cells.tolerance).where(cells.tolerance.notna())
    cells["state"] = cells.cell_state
    cells.loc[cells.cell_state.isin(["done", "partly"]) & (cells.n == 0), "state"] = "diverged"
    cells.loc[(cells.cell_state == "not run") & cells.published.notna(), "state"] = "published only"
    return with_shown_profile(with_plain_text(cells))


def _cell_rows(result: Result) -> Iterable[dict[str, Any]]:
    cell = result.cell
    metric = metric_of(result)
    references: dict[str, tuple[dict[str, str], ...]] = {}
    for row in published_for(cell, metric):
        quantity = COMPARES_WITH[row["split"], row["selection"]]
        references[quantity] = (*references.get(quantity, ()), row)
    for quantity in _quantities(result, references):
        examples = _examples(result, "validation" if quantity in DEV else quantity)
        known = references.get(quantity, ())
        yield place(cell) | {
            "quantity": quantity,
            "metric": metric,
            "examples": examples,
            "one_example": 100 / examples if metric == "accuracy" and examples else np.nan,
            "references": known,
            "published": float(known[0]["value"]) if known else np.nan,
            **_baselines(result, "validation" if quantity in DEV else quantity),
            "planned": len(cell.seeds),
            "cell_state": result.state,
            "is_reference": cell.is_reference,
        }


def metric_of(result: Result) -> str:
    """The metric that selects a cell's epochs: by its runs, else the first of its task."""
    for run in result.done.values():
        return str(run.record["metric"])
    metrics = _task(result).get("metrics")
    return str(metrics[0]) if metrics else "score"


def _task(result: Result) -> dict[str, Any]:
    return task_config(result.cell.task) if result.task is None else result.task


def published_for(cell: Cell, metric: str) -> list[dict[str, str]]:
    """The published rows of a cell and metric. In a sweep, only the point that the published recipe uses."""
    rows = [row for row in published(cell.task, cell.model, cell.row) if row["metric"] == metric]
    if cell.point is not None:
        key, value = cell.point
        rows = [row for row in rows if recipe_setting(f"{row['method']}/{cell.task}/{cell.model}", key) == value]
    return rows


def _quantities(result: Result, published: Iterable[str]) -> list[str]:
    """The scores that the runs of a cell have, or would have: dev first, test last."""
    task = _task(result)
    further = [name for name in (*published, *(task.get("sizes") or ())) if name not in (*DEV, "train", "validation")]
    if task.get("_target_", "").endswith(".TokenTask"):  # other tasks have no public test labels
        further.append("test")
    if any(override.startswith("task.held_out=") for override in result.cell.overrides):
        further.append("held_out")
    for run in result.done.values():
        further += [name for name, score in run.record["metrics"].items() if name not in DEV and score is not None]
    return [*DEV, *sorted(set(further), key=lambda name: (name == "test", name))]


def _examples(result: Result, split: str) -> int | None:
    """The number of examples in a split: as the runs had it, else as published."""
    for run in result.done.values():
        return run.record["data"]["splits"].get(split, {}).get("examples")
    return (_task(result).get("sizes") or {}).get(split)


def _baselines(result: Result, split: str) -> dict[str, float]:
    """The scores on a split, in percent, that need no model; NaN if no run has them in its record."""
    for run in result.done.values():
        if baselines := (run.record.get("baselines") or {}).get(split):
            return {name: 100 * score for name, score in baselines.items()}
    return {"majority": np.nan, "random": np.nan}


def _scores(done: DataFrame) -> DataFrame:
    """Statistics of the scores over seeds, by cell and quantity."""
    columns = [name for name in done if name.startswith(SCORE)]
    tidy = done.melt([*CELL, "seed"], columns, "quantity", "score").dropna(subset="score")
    tidy["quantity"] = tidy.quantity.str.removeprefix(SCORE)
    groups = tidy.groupby([*CELL, "quantity"])
    statistics = groups.score.agg(["mean", "std", "count", "min", "max"]).rename(columns={"count": "n"})
    by_seed = {key: dict(zip(group.seed, group.score, strict=True)) for key, group in groups}
    return statistics.assign(scores=Series(by_seed, index=statistics.index, dtype=object))


def _of_cell(done: DataFrame) -> DataFrame:
    """Marks, costs and origin of a cell's finished runs, by cell."""
    groups = done.groupby(CELL)
    frame = groups[list(SIGNS)].any()
    frame["marks"] = ["".join(sign for name, sign in SIGNS.items() if row[name]) for _, row in frame.iterrows()]
    frame["runs"] = groups.seed.count()
    frame["folders"] = groups.folder.agg(" ".join)
    frame["learning_rate"] = groups.record_learning_rate.agg(
        lambda rates: ", ".join(f"{r:g}" for r in sorted({*rates}))
    )
    for name in ("trainable_parameters", "adapter_bytes"):
        frame[name] = groups[name].max().astype("Int64")
    frame["hardware"] = groups.hardware.agg(lambda machines: machines.mode().iloc[0])
    with_machine = done.join(frame.hardware.rename("machine"), on=CELL)
    timed = with_machine[with_machine.hardware == with_machine.machine].groupby(CELL)
    frame["peak_memory_bytes"] = timed.peak_memory_bytes.max().astype("Int64")
    seconds = timed.wall_seconds.agg(["mean", "std", "count"])
    frame["seconds_mean"], frame["seconds_std"], frame["timed"] = seconds["mean"], seconds["std"], seconds["count"]
    return frame


def tolerance(std: Series, n: Series, one_example: Series) -> Series:
    """How far a single published run may lie from our mean by seed noise alone; NaN where one seed gives no estimate.

    This is the half-width of the 95 % prediction interval for one more run, t · std · √(1 + 1/n), which assumes that
    the published run has the same seed noise as ours; but at least the weight of one example, where that is known.
    """
    noise = t.ppf((1 + CONFIDENCE) / 2, (n - 1).where(n > 1)) * std * np.sqrt(1 + 1 / n.where(n > 1))
    return noise.where(~(noise < one_example), one_example)


def unselected(quantities: Iterable[str]) -> str:
    """The quantity to compare methods by: test, else another split that selects nothing, else best_dev."""
    further = [name for name in quantities if name not in DEV]
    return "test" if "test" in further else further[0] if further else "best_dev"


def csv_text(cells: DataFrame) -> str:
    """A line per row of a `cells_frame`, with the columns `CSV_COLUMNS`; an unknown value is an empty field."""
    table = cells.rename(columns={name: f"ours_{name}" for name in ("mean", "std", "min", "max")})
    table = table.assign(
        published=cells.references.map(lambda rows: rows[0]["value"] if rows else None),
        published_elsewhere=cells.references.map(lambda rows: "; ".join(map(also_published, rows[1:]))),
        scores_by_seed=cells.scores.map(_by_seed),
        runs=cells.folders,
        examples=cells.examples.astype("Int64"),
        **{
            f"published_{name}": cells.references.map(lambda rows, name=name: rows[0][name] if rows else None)
            for name in ("source", "split", "selection", "seed", "note")
        },
        **{name: _yes_or_no(cells[name]) for name in ("within", *SIGNS)},
    )
    for name, digits in CSV_DIGITS.items():
        table[name] = table[name].map(f"{{:.{digits}f}}".format, na_action="ignore")
    return table.to_csv(columns=list(CSV_COLUMNS), index=False, lineterminator="\n")


def _by_seed(scores: Any) -> str:
    return " ".join(f"{seed}:{score:.4f}" for seed, score in scores.items()) if isinstance(scores, dict) else ""


def _yes_or_no(column: Series) -> Series:
    return column.map(lambda value: None if pd.isna(value) else "yes" if value else "no")
