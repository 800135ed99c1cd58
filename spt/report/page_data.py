"""The data of the page `index.html`: its runs, and the cells whose numbers open them, as JSON."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

import pandas as pd
from pandas import DataFrame

from spt.report.number_format import QUANTITIES, conditions, number
from spt.report.runs_frame import SCORE, dev_scores, each_row

MOST_EPOCHS = 100  # of a curve on the page; a longer run shows every second epoch, every third, ...

Json = dict[str, Any]


def run_data(runs: DataFrame) -> Json:
    """The finished and diverged runs of a `runs_frame`, each once, as columns; `texts` are referred to by place.

    `command` is a list of places, `scores` has a column for each split. A run's own place in the columns is what
    `cell_data` refers to.
    """
    texts: defaultdict[str, int] = defaultdict(lambda: len(texts))  # the place of each
    rows, own = list[Json](), finished_runs(runs)
    scores = {
        name.removeprefix(SCORE): [None if pd.isna(score) else round(score, 2) for score in own[name]]
        for name in own
        if name.startswith(SCORE)
    }
    for run in each_row(own):
        record = run.run.record
        curve, step = dev_curve(run.run.history, record["metric"])
        rows.append(
            {
                "folder": run.folder,
                "seed": record["seed"],
                "status": record["status"],
                "metric": texts[record["metric"]],
                "rate": record["config"]["trainer"]["learning_rate"],
                "best_epoch": record["best_epoch"],
                "epochs": record["epochs"],
                "curve": curve,
                "step": step,
                "parameters": record["trainable_parameters"],
                "seconds": round(record["wall_seconds"], 1),
                "memory": record["peak_memory_bytes"],
                "numerics": record["numerics"],
                "command": [texts[word] for word in record["command"].split(" ")],
                "commit": texts[_commit(record["git"])],
                "data": texts[str(record["data"].get("fingerprint") or "unknown")],
                "weights": texts[str(record.get("model_sha256") or record.get("model_revision") or "unknown")],
                "versions": texts[", ".join(f"{name} {version}" for name, version in record["versions"].items())],
                "hardware": texts[run.hardware],
                "warnings": record["warnings"],
            }
        )
    columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    return {"texts": list(texts), "scores": scores, **columns}


def places_of(runs: DataFrame) -> dict[str, int]:
    """The place of each run in the columns of `run_data`, by its folder."""
    return {folder: place for place, folder in enumerate(finished_runs(runs).folder)}


def finished_runs(runs: DataFrame) -> DataFrame:
    """The rows of a `runs_frame` that have a record, one for each run."""
    return runs[runs.run.notna()].drop_duplicates("folder")


def _commit(git: Mapping[str, Any]) -> str:
    return (git["commit"] or "not in a repository") + (" with uncommitted changes" if git["dirty"] else "")


def dev_curve(history: Iterable[Mapping[str, Any]], metric: str) -> tuple[list[float], int]:
    """The dev score, in percent to a tenth (no chart shows more), after every step-th epoch, and the step."""
    scores = [round(score, 1) for score in dev_scores(history, metric)]
    step = max(1, ceil(len(scores) / MOST_EPOCHS))
    return scores[step - 1 :: step], step


def cell_data(cells: DataFrame, runs: DataFrame) -> list[Json]:
    """The cells that have a run, a failed or an unfinished one: their names, and the places of their runs.

    Args:
        cells: the `cells_frame` of all tables.
        runs: their `runs_frame`.
    """
    places = places_of(runs)
    known = runs[runs.status != "not run"]
    by_cell: dict[tuple[str, str], Json] = {}
    for run in each_row(known):
        names = {"profile": run.profile, "name": run.cell, "title": " · ".join([run.task, run.model, named(run)])}
        cell = by_cell.setdefault((run.profile, run.cell), names | {"runs": [], "trials": [], "problems": []})
        if run.folder in places:
            cell["trials" if run.role == "trial" else "runs"].append(places[run.folder])
        else:
            cell["problems"].append(f"seed {run.seed}: {run.error}")
    for line in each_row(cells[cells.references.map(bool)]):
        if (line.profile, line.cell) in by_cell:
            known_as = QUANTITIES[line.quantity]
            texts = [f"{known_as}: {number(float(row['value']))}, {conditions(row)}" for row in line.references]
            by_cell[line.profile, line.cell].setdefault("published", []).extend(texts)
    return list(by_cell.values())


def named(line: Any) -> str:
    """A cell's method, in a sweep the setting with its value, and the profile where it tells cells apart."""
    value = f"{line.setting.rpartition('.')[2]}={line.value}" if line.setting else ""
    return ", ".join(filter(None, [line.row, value, line.shown_profile]))
