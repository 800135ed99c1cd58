"""The page `index.html` of a report: one file that loads nothing, with tables to sort and filter, runs and charts."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from pandas import DataFrame

from spt.report.number_format import QUANTITIES, conditions, mean_and_std
from spt.report.page_charts import LEAST_WIDTH, charts
from spt.report.page_data import Json, cell_data, finished_runs, named, run_data
from spt.report.prefix_tables import HEADING as LEARNED
from spt.report.render_templates import ENVIRONMENT, notes
from spt.report.runs_frame import DEV, GROUP, each_row
from spt.report.seed_means import unselected
from spt.report.table_model import Section, Table, columns, groups
from spt.report.tables import FURTHER
from spt.report.verdicts import Verdict

PAGE = "index.html"

TEMPLATES, VENDOR = Path(__file__).parent / "templates", Path(__file__).parent / "vendor"

# The libraries of the page, each with its licence beside it: charts and sorting.
LIBRARIES = ("uplot-1.6.32/uPlot.iife.min.js", "tablesort-5.7.1/tablesort.min.js")

HTML = ENVIRONMENT.overlay(autoescape=True)
HTML.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}

NUMBER = re.compile(r"[<\[]?\s*[+−]?\d")  # what page.js reads as one, too


def page(
    title: str,
    command: str,
    titles: Mapping[str, str],
    cells: DataFrame,
    runs: DataFrame,
    prefixes: DataFrame,
    sections: Mapping[str, Sequence[Section]],
    not_run: Sequence[str],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """The text of the page.

    Args:
        title, command: its first heading, and the command that writes it again.
        titles: the titles of the tables, by name.
        cells, runs, prefixes: the `cells_frame`, the `runs_frame` and the `prefix_frame` of all tables.
        sections: the sections of each table's page, by the name of the table.
        not_run: what was not run, a text each.
        verdicts: questions and what the runs say to them, which come first.
    """
    opened = cell_data(cells, runs)
    scores = _scores(cells, {(cell["profile"], cell["name"]): place for place, cell in enumerate(opened)})
    finished = finished_runs(runs)
    scripts = [*map(_library, LIBRARIES), _file("page.js")]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    return HTML.get_template("page.html.j2").render(
        heading=title,
        command=command,
        titles=titles,
        verdicts=verdicts,
        scores=scores,
        has_references=any(score["line"].references for score in scores),
        choices=_choices(scores, titles),
        counts={"runs": len(finished)} | {name: finished[name].nunique() for name in ("task", "model")},
        is_demo=bool((finished.model == "demo").any()),
        charts=charts(titles, cells, runs, prefixes),
        least_width=LEAST_WIDTH,
        tables=_by_heading(titles, sections),
        marks=notes("marks_of", marks="".join(cells.marks)),
        tolerance=notes("tolerance"),
        published=_published(cells),
        not_run=not_run,
        problems=runs[runs.status.isin(["failed", "unfinished"])].to_dict("records"),
        data={"runs": run_data(runs), "cells": opened, "splits": QUANTITIES},
        styles=[_library("uplot-1.6.32/uPlot.min.css"), _file("page.css")],
        scripts=scripts,
        hashes=" ".join(f"'sha256-{each}'" for each in hashes),
        numeric=numeric,
        groups=groups,
    )


@cache
def _file(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def _library(name: str) -> Markup:
    """A script or style of `vendor/`, after its licence."""
    path = VENDOR / name
    licence = (path.parent / "LICENSE").read_text(encoding="utf-8")
    return Markup(f"/*! {path.parent.name}\n{licence}*/\n{path.read_text(encoding='utf-8')}")


def _scores(cells: DataFrame, places: Mapping[tuple[str, str], int]) -> list[Json]:
    """The scores of the cells that the page opens, by table, task and model; of a cell without any, why.

    `strip` is the left end, centre and right end of mean ± standard deviation, in percent of the axis of its group;
    `is_compared` says whether methods are compared by this split.
    """
    scores = list[Json]()
    shown = cells[[place in places for place in zip(cells.profile, cells.cell, strict=True)]]
    for _, group in shown.groupby(["table", *GROUP], sort=False):
        compared = unselected(dict.fromkeys(group.quantity[group.n > 0]))
        axes = {quantity: _axis(own) for quantity, own in group[group.n > 0].groupby("quantity")}
        for line in each_row(group):
            if not line.n and (line.quantity != DEV[0] or line.state == "not run"):
                continue
            scores.append(
                {
                    "line": line,
                    "cell": places[line.profile, line.cell],
                    "method": named(line),
                    "text": (mean_and_std(line.mean, line.std) if line.n else line.state) + line.marks,
                    "strip": _strip(line, *axes[line.quantity]) if line.n else None,
                    "is_compared": not line.n or line.quantity == compared,
                    "seeds": f"{line.n}" + (f" of {line.planned}" if line.n < line.planned else ""),
                    "split": QUANTITIES[line.quantity],
                }
            )
    return scores


def _axis(cells: DataFrame) -> tuple[float, float]:
    """The lower end and the width of the axis of a group's strips."""
    noise = cells["std"].fillna(0)
    low, high = (cells["mean"] - noise).min(), (cells["mean"] + noise).max()
    width = max(high - low, LEAST_WIDTH)
    return (low + high - width) / 2, width


def _strip(line: Any, low: float, width: float) -> tuple[float, float, float]:
    noise = 0.0 if pd.isna(line.std) else line.std
    left, centre, right = (round(100 * (x - low) / width, 1) for x in (line.mean - noise, line.mean, line.mean + noise))
    return left, centre, right


def _choices(scores: Sequence[Json], titles: Mapping[str, str]) -> dict[str, list[str]]:
    """What the filters offer: each name once, in the order of the table."""
    lines = [score["line"] for score in scores]
    every = {
        "task": [line.task for line in lines],
        "model": [line.model for line in lines],
        "method": [line.row.partition(",")[0] for line in lines],
        "split": [score["split"] for score in scores],
        "table": [titles[line.table] for line in lines],
    }
    return {name: list(dict.fromkeys(values)) for name, values in every.items()}


def _by_heading(titles: Mapping[str, str], sections: Mapping[str, Sequence[Section]]) -> dict[str, list[Table]]:
    """The tables beside those of scores, by the heading of their section; the titles name the report's table."""
    tables: dict[str, list[Table]] = {heading: [] for heading in (*FURTHER, LEARNED)}
    for name, own in sections.items():
        for section in own:
            if section.heading in tables:
                tables[section.heading] += [replace(it, title=f"{titles[name]}: {it.title}") for it in section.tables]
    return tables


def _published(cells: DataFrame) -> Table:
    """The published numbers that have no run beside them."""
    alone = cells[(cells.n == 0) & cells.references.map(bool)]
    rows = {
        (line.model, line.task, line.row, QUANTITIES[line.quantity], row["value"], conditions(row))
        for line in each_row(alone)
        for row in line.references
    }
    heads = columns("model", "task", "row", "of", "published, %", "source and conditions")
    return Table("Published numbers without a run beside them", heads, [list(row) for row in sorted(rows)])


def numeric(table: Table) -> list[bool]:
    """Whether at least half of the cells of each column begin with a number."""
    return [2 * sum(map(bool, map(NUMBER.match, texts))) >= len(texts) for texts in zip(*table.rows, strict=True)]
