"""Whether the runs of each cell were long enough: how the dev score rises in the last quarter of their epochs."""

import numpy as np
from pandas import DataFrame, Series

from spt.report.runs_frame import CELL, dev_scores

PLACE = [*CELL, "model", "task", "row", "setting", "value", "shown_profile"]


def convergence_frame(runs: DataFrame) -> DataFrame:
    """A row per cell with finished runs of several epochs.

    Columns, beside those that name the cell: `epochs` (the most of its runs), `n` (its runs), `rise` (points from the
    first to the second half of the last quarter of epochs, mean over runs; a half has at least one epoch), `noise` (the
    sample standard deviation over runs of the second half's score; NaN of one run), `is_rising` (whether the rise is
    larger than the noise; None if the noise is unknown).

    Args:
        runs: the `runs_frame` of one or more tables.
    """
    rows = []
    finished = runs[(runs.role == "seed") & (runs.status == "finished")]
    for _, own in finished.groupby(CELL, sort=False):
        scores = [dev_scores(run.history, run.record["metric"]) for run in own.run]
        ends = [_last_quarter(each) for each in scores if len(each) > 1]
        if ends:
            before, after = map(Series, zip(*ends, strict=True))
            rise, noise = (after - before).mean(), after.std()
            is_rising = bool(rise > noise) if len(ends) > 1 else None
            rows.append([*own.iloc[0][PLACE], max(map(len, scores)), len(ends), rise, noise, is_rising])
    return DataFrame(rows, columns=[*PLACE, "epochs", "n", "rise", "noise", "is_rising"])


def _last_quarter(scores: list[float]) -> tuple[float, float]:
    """The mean score of the first and of the second half of the last quarter of epochs."""
    half = max(1, round(len(scores) / 8))
    return float(np.mean(scores[-2 * half : -half])), float(np.mean(scores[-half:]))
