"""Whether the runs of each cell were long enough: how the dev score rises in the last quarter of their epochs."""

from typing import Any

import numpy as np
from pandas import DataFrame

from spt.report.runs_frame import CELL

COLUMNS = (*CELL, "model", "task", "row", "setting", "value", "epochs", "n", "rise", "noise", "is_rising")


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
        scores = [_dev_scores(run) for run in own.run]
        ends = [_last_quarter(each) for each in scores if len(each) > 1]
        if ends:
            before, after = np.array(ends).T
            rise, noise = float((after - before).mean()), float(after.std(ddof=1)) if len(ends) > 1 else np.nan
            is_rising = rise > noise if len(ends) > 1 else None
            place = own.iloc[0][[*CELL, "model", "task", "row", "setting", "value"]].to_dict()
            rows.append([*place.values(), max(map(len, scores)), len(ends), rise, noise, is_rising])
    return DataFrame(rows, columns=COLUMNS)


def _dev_scores(run: Any) -> list[float]:
    """The score that selects the epoch, in percent, after each epoch."""
    dev = f"dev_{run.record['metric']}"
    return [100 * row[dev] for row in run.history if dev in row]


def _last_quarter(scores: list[float]) -> tuple[float, float]:
    """The mean score of the first and of the second half of the last quarter of epochs."""
    half = max(1, round(len(scores) / 8))
    return float(np.mean(scores[-2 * half : -half])), float(np.mean(scores[-half:]))
