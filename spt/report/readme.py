"""The README of a results folder: what was run and what was not, what it answers, and how to read it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pandas import DataFrame

from spt.path_overrides import own_config_dir
from spt.paths import CONF
from spt.report.convergence import convergence_frame
from spt.report.figures import SUFFIX
from spt.report.markdown import markdown_table
from spt.report.number_format import NONE, extents, listed, number
from spt.report.render_templates import ENVIRONMENT
from spt.report.runs_frame import CELL
from spt.report.table_model import Table, columns
from spt.report.tables import chose_highest
from spt.report.verdicts import Verdict

ENVIRONMENT.filters["markdown"] = markdown_table

DEFAULT_PROFILES = ["cpu", "paper"]  # of conf/report.yaml

STATES = ("done", "partly", "failed", "unfinished", "not run")


def readme(
    titles: Mapping[str, str],
    profiles: Sequence[str],
    cells: DataFrame,
    runs: DataFrame,
    answers: Sequence[Verdict],
    figures: Mapping[str, str],
    learned: Mapping[str, Sequence[Table]],
    claims: Sequence[str],
    unused: Sequence[str],
) -> str:
    """The text of the README.

    Args:
        titles: the titles of the tables, by name.
        profiles: the profiles of the cells.
        cells, runs: the `cells_frame` and `runs_frame` of all tables.
        answers: the `verdicts` of all tables.
        figures: the captions of the figures, by name.
        learned: of each table, those of its `prefix_tables` that are shown.
        claims: the `prefix_claims`.
        unused: the `unused_runs`.
    """
    every = cells.drop_duplicates(CELL)
    has_references = cells.groupby(CELL).published.count() > 0
    published = every.join(has_references.rename("is_published"), on=CELL)
    done = every[every.runs > 0]
    finished = runs[runs.run.notna()]
    example = done if len(done) else every
    text = ENVIRONMENT.get_template("README.md.j2").render(
        compared_with_published=bool((published.is_published & (published.runs > 0)).any()),
        tables=_tables(titles, published),
        answers=answers,
        lengths=_lengths(runs),
        searches=_searches(runs),
        figures={name: caption for name, caption in figures.items() if not name.endswith(SUFFIX)},
        prefix_figures={name: caption for name, caption in figures.items() if name.endswith(SUFFIX)},
        titles=titles,
        learned=learned,
        claims=claims,
        runs_by_table=_runs_by_table(titles, every, finished),
        run=_all_runs(finished),
        not_run=not_run(every[every.profile.isin(done.profile)], runs),
        not_begun=not_run(every[~every.profile.isin(done.profile)], runs),
        failures=runs[runs.status == "failed"].to_dict("records"),
        unused=unused,
        command=command(titles, profiles),
        example=example.cell.iloc[0] if len(example) else "",
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _table(labels: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(Table("", columns(*labels), rows)) if rows else ""


def _tables(titles: Mapping[str, str], cells: DataFrame) -> str:
    rows = []
    for name, title in titles.items():
        own = cells[cells.table == name]
        counts = own.cell_state.value_counts()
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
        files = ", ".join(f"[{kind}](tables/{name}.{kind})" for kind in ("md", "tex", "csv"))
        rows.append([title, files, states, str(own.is_published.sum())])
    return _table(("table", "files", "cells", "cells with a published number"), rows)


def _lengths(runs: DataFrame) -> str:
    """How many cells of each task still rise in the last quarter of their epochs."""
    frame = convergence_frame(runs[runs.role == "seed"].drop_duplicates("folder"))  # a run of several tables once
    rows = []
    for (model, task), own in frame[frame.n > 1].groupby(["model", "task"], sort=False):
        rising = own[own.is_rising.astype(bool)]
        epochs = listed(sorted({*own.epochs}))
        largest = number(rising.rise.max(), sign=True) if len(rising) else NONE
        rows.append([model, task, epochs, str(len(own)), str(len(rising)), largest])
    return _table(("model", "task", "epochs", "cells", "still rising", "by at most, points"), rows)


def _searches(runs: DataFrame) -> tuple[int, int]:
    """How many cells chose the highest of several learning rates, and how many chose one of several."""
    searched = runs[runs.trial.notna()].groupby(CELL)
    answers = [answer for _, tried in searched if (answer := chose_highest(tried)) is not None]
    return sum(answers), len(answers)


def _runs_by_table(titles: Mapping[str, str], cells: DataFrame, finished: DataFrame) -> str:
    rows = []
    for name, title in titles.items():
        states, own = cells.cell_state[cells.table == name], finished[finished.table == name].drop_duplicates("folder")
        if len(own):
            done = f"{(states == 'done').sum()} of {len(states)}"
            names = (listed(sorted({*own.seed})), listed(sorted({*own.model})))
            rows.append([title, done, str(len(own)), *names, f"{own.wall_seconds.sum() / 3600:.2f}"])
    return _table(("table", "cells done", "runs", "seeds", "models", "hours"), rows)


def _all_runs(finished: DataFrame) -> dict[str, Any] | None:
    """What all runs together took and were made with; None if there are none."""
    if not len(finished):
        return None
    runs = finished.drop_duplicates("folder").sort_values("folder")
    versions = DataFrame([run.record["versions"] for run in runs.run]).fillna("none")
    return {
        "count": len(runs),
        "hours": runs.wall_seconds.sum() / 3600,
        "hardware": sorted({*runs.hardware}),
        "commits": runs.commit.value_counts().sort_index().to_dict(),
        "versions": {name: sorted({*map(str, versions[name])}) for name in versions},
        "has_demo": (runs.model == "demo").any(),
    }


def not_run(cells: DataFrame, runs: DataFrame) -> list[str]:
    """The cells that are not done, in few words, by state, table and model."""
    trials = runs[runs.trial.notna()].groupby(CELL).run.agg(["count", "size"]).to_dict("index")
    missing = cells[cells.cell_state != "done"]
    words = [_missing(cell, trials.get((cell.profile, cell.cell))) for cell in missing.itertuples()]
    groups = missing.assign(words=words).groupby(["words", "table", "model"], sort=False)
    return sorted(
        f"{words}: {table}, {model}: {text}" for (words, table, model), own in groups for text in extents(own)
    )


def _missing(cell: Any, trials: dict[str, int] | None) -> str:
    if cell.cell_state == "not run" and trials and trials["count"]:
        return f"not run, but {trials['count']} of {trials['size']} learning rates tried"
    return f"{cell.runs} of {cell.planned} seeds" if cell.cell_state == "partly" else cell.cell_state


def command(titles: Mapping[str, str], profiles: Sequence[str]) -> str:
    """The command that writes this report."""
    choices = []
    if sorted(titles) != sorted(path.stem for path in (CONF / "table").glob("*.yaml")):
        choices.append(f"'table=[{','.join(titles)}]'")
    if profiles != DEFAULT_PROFILES:
        choices.append(f"'profile=[{','.join(profiles)}]'")
    where = ["results_dir=..."] if choices else []
    return " ".join(["python -m spt.report", *map(shlex.quote, own_config_dir()), *choices, *where])
