"""A row per run of each cell: every number of a run that the report uses, as a DataFrame.

Tables, paired tests, figures, CSV files and the README only read this frame and the one of `spt.report.seed_means`.
Scores are in percent. A cell is identified by the columns `CELL`; `setting` and `value` are the swept setting and its
value as text, empty without a sweep; `shown_profile` is the profile where a table has several for a task and model,
else empty.
"""

from collections import namedtuple
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pandas import DataFrame

from spt.grid.cells import Cell
from spt.grid.match_records import Finished, Result
from spt.numerics_version import NUMERICS

DEV = ("best_dev", "last_dev")  # scores on the split that selects the epoch; no other quantity selects anything

CELL = ["profile", "cell"]
GROUP = ["task", "model", "shown_profile"]  # the cells of a table that a figure shows

# What is marked in the tables if it holds for any run of a cell, and by which sign.
SIGNS = {"collapsed": "†", "diverged": "‡", "dirty": "§", "outdated": "¶", "other_data": "‖"}

MEANING = {
    "collapsed": "collapsed: at the best dev epoch they predict one class for every example",
    "diverged": "diverged: the dev scores are of the epochs before, and a later split has none",
    "dirty": "were made with uncommitted changes in the working tree",
    "outdated": f"were made with another version of the numerics than {NUMERICS}, the present one",
    "other_data": "used other data than most runs of the task, or than the data in data_dir",
}

SCORE = "score_"  # begins the names of the columns of `runs_frame` with scores

RUN_COLUMNS = (
    *("cell", "table", "profile", "model", "task", "row", "setting", "value"),
    *("seed", "learning_rate", "role", "trial", "status", "error"),
    *("run", "folder", "record_learning_rate", *SIGNS),
    *("trainable_parameters", "wall_seconds", "peak_memory_bytes", "adapter_bytes", "hardware", "commit"),
)


def runs_frame(results: Iterable[Result]) -> DataFrame:
    """A row per run of each cell, finished or not. A run that several cells share has a row in each.

    Columns, beside those that name the cell: `seed`; `learning_rate` (NaN: the config's own); `role` ("seed": a run of
    the cell, "trial": it only tried a learning rate); `trial` (its place among the candidate learning rates, NaN if it
    tried none); `status` ("finished", "diverged", "failed", "unfinished", "not run"); `error` of a failed run, or how
    far an unfinished one is.
    The other columns are of finished and diverged runs: `score_<quantity>`, the marks of `SIGNS`, costs, `hardware` and
    `commit` in words, and `run` itself, for its history and outcomes.
    """
    rows = [row for result in results for row in _run_rows(result)]
    scores = dict.fromkeys([f"{SCORE}{name}" for name in DEV])
    scores |= dict.fromkeys(name for row in rows for name in row if name.startswith(SCORE))
    return with_shown_profile(with_plain_text(DataFrame(rows, columns=[*RUN_COLUMNS, *scores])))


def _run_rows(result: Result) -> list[dict[str, Any]]:
    rows = []
    for (seed, rate), run in result.by_job.items():
        is_seed = result.is_decided and rate == result.learning_rate
        row = place(result.cell) | {"seed": seed, "learning_rate": rate, "role": "seed" if is_seed else "trial"}
        if rate in result.trials and seed == result.cell.seeds[0]:
            row["trial"] = result.cell.learning_rates.index(rate)
        if run is None:
            row |= _without_record(result, seed, rate)
        rows.append(row if run is None else row | _facts(run, result.usual_data))
    return rows


def _without_record(result: Result, seed: int, rate: float | None) -> dict[str, Any]:
    for status, reasons in (("failed", result.failures), ("unfinished", result.unfinished)):
        if (seed, rate) in reasons:
            return {"status": status, "error": reasons[seed, rate]}
    return {"status": "not run", "error": None}


def _facts(run: Finished, usual_data: str | None) -> dict[str, Any]:
    record, git = run.record, run.record["git"]
    return {
        "run": run,
        "folder": run.folder.name,
        "status": record["status"],
        **{SCORE + name: 100 * score for name, score in record["metrics"].items() if score is not None},
        "record_learning_rate": record["config"]["trainer"]["learning_rate"],
        "collapsed": record["collapsed"],
        "diverged": record["status"] == "diverged",
        "dirty": bool(git["dirty"]),
        "outdated": record["numerics"] != NUMERICS,
        "other_data": record["data"].get("fingerprint") != usual_data,
        "trainable_parameters": record["trainable_parameters"],
        "wall_seconds": record["wall_seconds"],
        "peak_memory_bytes": record["peak_memory_bytes"],
        "adapter_bytes": record["adapter_bytes"],
        "hardware": hardware(record),
        "commit": f"{(git['commit'] or 'no repository')[:12]}{', uncommitted changes' if git['dirty'] else ''}",
    }


def dev_scores(history: Iterable[Mapping[str, Any]], metric: str) -> list[float]:
    """The dev score after each epoch of a run's history, in percent."""
    return [100 * row[name] for row in history if (name := f"dev_{metric}") in row]


def hardware(record: dict[str, Any]) -> str:
    """The machine of a run, in words."""
    machine = record["hardware"]
    threads = f"{machine['threads']} thread" + ("s" if machine["threads"] != 1 else "")
    processor = f"{machine['processor'] or 'unknown processor'}, {threads} of {machine['cores']} cores"
    if machine["accelerator"] is None:
        return f"{processor}, {machine['system']}"
    return f"{machine['accelerators']} x {machine['accelerator']} ({processor}, {machine['system']})"


def place(cell: Cell) -> dict[str, Any]:
    """The columns that name a cell."""
    setting, value = ("", "") if cell.point is None else (cell.point[0], str(cell.point[1]))
    names = {"cell": cell.name, "table": cell.table, "profile": cell.profile, "model": cell.model, "task": cell.task}
    return names | {"row": cell.row, "setting": setting, "value": value}


def with_shown_profile(frame: DataFrame) -> DataFrame:
    """A frame of cells or runs with the column `shown_profile`."""
    profiles = frame.groupby(["table", "task", "model"]).profile.transform("nunique")
    return frame.assign(shown_profile=frame.profile.where(profiles > 1, ""))


def each_row(frame: DataFrame) -> list[Any]:
    """The rows as tuples with the names of the columns; `itertuples` takes many times as long for a short frame."""
    return list(map(_row_type(tuple(frame.columns))._make, zip(*(frame[name].tolist() for name in frame), strict=True)))


@cache
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)


def with_plain_text(frame: DataFrame) -> DataFrame:
    """A frame with text as Python strings, which are faster to read row by row than Arrow's."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("str"), object))
