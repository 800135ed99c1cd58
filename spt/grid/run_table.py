"""Finished runs in a table: a row each, or means over runs that differ only in the seed (or in the settings named)."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pandas import DataFrame
from rich.table import Table

from spt.console import console, percent, write_data
from spt.errors import SptError, nearest
from spt.records.comparable_settings import LOCATIONS, as_text, flat, normalised, numbers_first, short_names
from spt.records.fingerprint import settings, with_processes
from spt.terminal_table import plain_table, print_table

PLACE = ["task", "model", "method"]  # in frames: the names of these groups
NOTE = ""  # the heading of "collapsed", "diverged"
MARKS = {"†": "collapsed", "‡": "diverged"}  # as in the report


def show_runs(records: Sequence[dict[str, Any]], format: str = "table") -> None:
    """Print a row for each run, ordered by task, model and method."""
    frame = settings_frame(records)
    varied = [name for name in varying(frame) if name != "seed"]
    splits = _splits(records)
    order = sorted(range(len(records)), key=lambda i: list(map(numbers_first, frame.loc[i, [*PLACE, *varied, "seed"]])))
    if format != "table":
        rows = []
        for i in order:
            record = records[i]
            rows.append(
                dict(frame.loc[i, [*PLACE, *varied, "seed"]])
                | {"metric": record["metric"]}
                | {name: record["metrics"].get(name) for name in splits}
                | {"best_epoch": record["best_epoch"], "parameters": record["trainable_parameters"]}
                | {"seconds": record["wall_seconds"], "note": _note([record]), "run": record["fingerprint"]}
            )
        return _write(DataFrame(rows), format)
    table = _table([*PLACE, "with", "seed", "metric", *map(_heading, splits), "parameters", "s", NOTE, "run"])
    differing = {name: frame.groupby(PLACE)[name].transform("nunique") > 1 for name in varied}
    for i in order:
        record, own = records[i], frame.loc[i]
        words = [f"{name.rpartition('.')[2]}={own[name] or 'none'}" for name in varied if differing[name][i]]
        scores = [percent(record["metrics"].get(name)) for name in splits]
        if record["best_epoch"] is not None:
            scores[0] += f" @{record['best_epoch']}"
        table.add_row(
            *(*own[PLACE], " ".join(words), own.seed, record["metric"], *scores),
            *(f"{record['trainable_parameters']:,}", f"{record['wall_seconds']:.0f}", _note([record])),
            record["fingerprint"],
        )
    print_table(table, ["s", "parameters", "metric", _heading("last_dev"), "run", "model"])


def show_means(
    records: Sequence[dict[str, Any]], by: Sequence[str] = (), over: Sequence[str] = ("seed",), format: str = "table"
) -> None:
    """Print mean ± sample standard deviation of the scores over runs, with a row for each combination of settings.

    Args:
        records: of finished runs.
        by: settings, or groups of them, that tell the rows apart; without any: task, model, method and what varies.
        over: settings, or groups of them, in which the runs of a row may differ.
        format: table, csv, latex or json. Scores in csv and json are from 0 to 1, with the standard deviation beside.

    Raises:
        SptError: if runs of a row differ in a setting that is in neither of them, or a setting is unknown.
    """
    frame = settings_frame(records)
    _check([*by, *over], frame, records)
    varied = [name for name in varying(frame) if not _is_of(name, over)]
    keys = [name for key in by for name in _columns(key, frame, varied)] if by else [*PLACE, *varied]
    keys = list(dict.fromkeys(keys))
    groups = frame.groupby(keys) if keys else [((), frame)]
    rows, shown, splits = [], [], _splits(records)
    for values, group in sorted(groups, key=lambda item: list(map(numbers_first, item[0]))):
        differing = [name for name in group if group[name].nunique() > 1 and not _is_of(name, over)]
        if differing:
            named = [name for name in differing if name in PLACE] or [name for name in varied if name in differing]
            where = ", ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
            raise SptError(
                f"the runs of {where} differ in {', '.join(named or differing)} too: add it to by=[...], or to "
                "over=[...] to average over it"
            )
        own = [records[i] for i in group.index]
        cells = dict(zip(keys, values, strict=True))
        scores = DataFrame([{name: each["metrics"].get(name) for name in splits} for each in own], dtype=float)
        mean, std, note = scores.mean(), scores.std(), _note(own)
        metric = ", ".join(dict.fromkeys(each["metric"] for each in own))
        rows.append(cells | {"metric": metric, "runs": len(own)})
        marks = "".join(mark for mark, state in MARKS.items() if state in note)
        shown.append([*values, metric, f"{len(own)}{marks}", *(_mean_and_std(scores[s]) for s in splits)])
        for name in splits:
            rows[-1] |= {name: mean[name], f"{name}_std": std[name]}
        rows[-1]["note"] = note
    headings = [*map(_heading, short_names(keys).values()), "metric", "runs", *map(_heading, splits)]
    if format in ("csv", "json"):
        return _write(DataFrame(rows), format)
    if format == "latex":
        return _write(DataFrame(shown, columns=[each.replace("\n", " ") for each in headings]), format)
    table = _table(headings)
    for row in shown:
        table.add_row(*row)
    marked = "".join(row[len(keys) + 1] for row in shown)
    constant = [name for name in ("task", "model") if name in keys and frame[name].nunique() == 1]
    print_table(table, [_heading("last_dev"), *constant, "metric", _heading("best_dev")])
    for mark, state in MARKS.items():
        if mark in marked:
            console.print(f"{mark} with runs that {state}")


def settings_frame(records: Sequence[dict[str, Any]]) -> DataFrame:
    """The settings of runs that can change a result, as text: a row for each run, columns by dotted names.

    `PLACE` and `seed` are the first columns. The columns with the place of data and weights are empty unless runs of
    one task have different data, or of one model different weights. Then each run shows the place at which the first
    run with the same content found it. Where all settings are the same and the content is not, the columns
    "task.content" and "model.content" have the first digits of its hash.
    """
    rows, content = [], []
    for record in records:
        names = {f"{group}.name" for group in PLACE}
        every = flat(normalised(settings(with_processes(record["config"], record["processes"]))))
        own = {name: as_text(value) for name, value in every.items() if name not in names}
        rows.append({group: record[group] for group in PLACE} | own | {"seed": str(record["seed"])})
        weights = record.get("model_sha256") or record.get("model_revision")
        content.append({"task": record["data"].get("fingerprint"), "model": weights})
    frame, hashes = DataFrame(rows, dtype=object).fillna(""), DataFrame(content, dtype=object).fillna("")
    for group, locations in LOCATIONS.items():
        columns = [column for name in locations if (column := f"{group}.{name}") in frame]
        first = frame.groupby([frame[group], hashes[group]])[columns].transform("first")
        frame[columns] = first.where(hashes.groupby(frame[group])[group].transform("nunique") > 1, "")
        settings_of = [frame[name] for name in frame if name == group or name.startswith(f"{group}.")]
        is_hidden = hashes[group].groupby(settings_of).transform("nunique") > 1  # files that changed in their place
        frame[f"{group}.content"] = hashes[group].str[:8].where(is_hidden, "")
    return frame


def varying(frame: DataFrame) -> list[str]:
    """The settings in which runs of the same task, model and method differ."""
    counts = frame.groupby(PLACE).nunique()
    return [str(name) for name in counts if (counts[name] > 1).any()]


def _columns(key: str, frame: DataFrame, varied: Sequence[str]) -> list[str]:
    return [key] * (key in frame) + [name for name in varied if _is_of(name, [key]) and name != key]


def _is_of(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _check(keys: Sequence[str], frame: DataFrame, records: Sequence[dict[str, Any]]) -> None:
    known = dict.fromkeys([*frame, *(name for record in records for name in flat(settings(record["config"])))])
    known |= dict.fromkeys(name.partition(".")[0] for name in known) | {"seed": None}
    for key in keys:
        if not any(_is_of(name, [str(key)]) for name in known):
            raise SptError(f"by= and over= name settings or groups of runs, not {key!r}: {nearest(str(key), known)}")


def _splits(records: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for record in records for name in record["metrics"])
    ordered = dict.fromkeys(["best_dev", "last_dev", *(name for name in names if name != "test"), "test"])
    return [name for name in ordered if any(each["metrics"].get(name) is not None for each in records)]


def _note(records: Sequence[dict[str, Any]]) -> str:
    counts = {
        "collapsed": sum(bool(each["collapsed"]) for each in records),
        "diverged": sum(each["status"] == "diverged" for each in records),
    }
    return ", ".join(state if len(records) == 1 else f"{n} {state}" for state, n in counts.items() if n)


def _mean_and_std(scores: "pd.Series[float]") -> str:
    """Mean ± standard deviation of the runs that have the score; their number, if it is not that of all."""
    known = scores.dropna()
    if not len(known):
        return "-"
    of = f" ({len(known)} of {len(scores)})" if len(known) < len(scores) else ""
    return percent(known.mean()) + (f" ± {percent(known.std())}" if len(known) > 1 else "") + of


def _heading(name: str) -> str:
    return name.replace("_", "\n")


def _table(headings: Sequence[str]) -> Table:
    table = plain_table()
    for name in headings:
        is_text = name in (*PLACE, "with", "metric", NOTE, "run")
        table.add_column(name, no_wrap=name not in ("with", NOTE), justify="left" if is_text else "right")
    return table


def _write(frame: DataFrame, format: str) -> None:
    match format:
        case "csv":
            write_data(frame.to_csv(index=False, lineterminator="\n"))
        case "json":
            write_data(frame.to_json(orient="records", indent=2, force_ascii=False) + "\n")
        case _:
            write_data(frame.to_latex(index=False, escape=True, float_format="%.4g"))
