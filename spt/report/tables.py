"""The tables of a page: scores, best and last epoch, paired tests, learning rates, costs."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pandas as pd
from pandas import DataFrame

from spt.report.convergence import convergence_frame
from spt.report.number_format import (
    BASELINES,
    METRICS,
    NONE,
    NOT_APPLICABLE,
    QUANTITIES,
    also_published,
    at_most_100,
    conditions,
    extents,
    listed,
    mean_and_std,
    number,
    p_value,
)
from spt.report.render_templates import notes
from spt.report.runs_frame import CELL, DEV, each_row
from spt.report.seed_means import FEWEST_POINTS
from spt.report.table_model import Column, Section, Table, columns

# The sections after the scores
FURTHER = ("What selecting on dev does", "Differences between rows", "Length of the runs", "Learning rates", "Cost")

PLACE = ("model", "task", "row")  # the first columns of the tables that have a row per cell


def sections(cells: DataFrame, runs: DataFrame, tests: DataFrame) -> list[Section]:
    """The sections of a table's page: scores by model, and what the table's rows differ by, their settings and costs.

    Args:
        cells, runs: the `cells_frame` and `runs_frame` of the table.
        tests: its `paired_tests`.
    """
    scores = [
        _score_section(f"{model} (profile {profile})" if profile else model, own)
        for (profile, model), own in cells.groupby(["profile", "model"], sort=False)
    ]
    tested = paired_tests_table(tests)
    further = (_best_and_last(cells, runs), tested, _convergence(runs), _learning_rates(runs), _costs(cells))
    others = [Section(name, tables=[table]) for name, table in zip(FURTHER, further, strict=True) if table.rows]
    collapsed = [section for section in scores if section.is_collapsed]
    return [*(section for section in scores if not section.is_collapsed), *others, *collapsed]


def _score_section(heading: str, cells: DataFrame) -> Section:
    """The scores of a model. Rows and tasks of which nothing was run or published are named, not shown."""
    shown = cells[_has_numbers(cells)]
    left_out = cells[~cells.cell.isin(shown.cell)].drop_duplicates(CELL)
    text = [f"Not shown, for nothing or a single point was run: {'; '.join(extents(left_out))}."] * bool(len(left_out))
    names = dict.fromkeys([*DEV, *shown.quantity])
    ordered = sorted(names, key=lambda name: (name not in DEV, name == "test"))
    tables = [_scores(name, shown) for name in ordered] if len(shown) else []
    return Section(heading, text, tables, is_collapsed=not cells.runs.any())


def _has_numbers(cells: DataFrame) -> "pd.Series[bool]":
    """Whether the row and the task of each cell have a run or a published number; in a sweep, at enough points."""
    known = cells[(cells.state != "not run")]
    points = known.groupby("task").value.nunique() if len(known) else {}
    fewest = FEWEST_POINTS if (cells.setting != "").any() and not known.published.notna().any() else 1
    tasks = {task for task in dict.fromkeys(cells.task) if points.get(task, 0) >= fewest}
    known = known[known.task.isin(tasks)]
    places = set(zip(known.row, known.value, strict=True))
    every = zip(cells.task, cells.row, cells.value, strict=True)
    is_known = [task in tasks and (row, value) in places for task, row, value in every]
    return pd.Series(is_known, cells.index, dtype=bool)


def _scores(quantity: str, cells: DataFrame) -> Table:
    """A quantity with rows by method and columns by task: ours, and, if any is known for the task, published and Δ.

    The last rows are scores that need no model, where records have them.
    """
    shown = each_row(cells[cells.quantity == quantity])
    tasks = list(dict.fromkeys(cell.task for cell in shown))
    known = {cell.task for cell in shown if cell.references}
    places = dict.fromkeys(zip(cells.row, cells.value, strict=True))
    by_place = {(cell.row, cell.value, cell.task): cell for cell in shown}
    swept = list(cells.setting[cells.setting != ""])
    heads = columns("row", *swept[:1])
    for task in tasks:
        heads += columns(*(("published", "ours", "Δ") if task in known else ("ours",)), group=task)
    footnotes: dict[str, int] = {}
    rows = []
    for row, value in places:
        texts = [row, *([value] if swept else [])]
        for task in tasks:
            cell = by_place.get((row, value, task))
            if task in known:
                texts += [_published(cell, footnotes), _ours(cell), _delta(cell)]
            else:
                texts.append(_ours(cell))
        rows.append(texts)
    for name, label in BASELINES.items():
        by_task = {cell.task: number(score) for cell in reversed(shown) if not pd.isna(score := getattr(cell, name))}
        if by_task:
            texts = [label, *([""] if swept else [])]
            for task in tasks:
                score = by_task.get(task, NONE)
                texts += ["", score, ""] if task in known else [score]
            rows.append(texts)
    return Table(QUANTITIES[quantity], heads, rows, _score_notes(quantity, shown, footnotes))


def _published(cell: Any, footnotes: dict[str, int]) -> str:
    if cell is None or not cell.references:
        return NONE
    main, *others = cell.references
    words = [conditions(main), *(f"for {cell.task} also {also_published(row)}" for row in others)]
    return f"{number(cell.published)} [{footnotes.setdefault('; '.join(words), len(footnotes) + 1)}]"


def _ours(cell: Any) -> str:
    if cell is None:
        return NONE
    if not cell.n:
        return cell.state + cell.marks
    n = f"{cell.n}" if cell.n == cell.planned else f"{cell.n} of {cell.planned}"
    return f"{mean_and_std(cell.mean, cell.std)} ({n}){cell.marks}"


def _delta(cell: Any) -> str:
    if cell is None or pd.isna(cell.delta):
        return NOT_APPLICABLE
    delta = number(cell.delta, sign=True)
    if pd.isna(cell.tolerance):
        return f"{delta} (one seed: no tolerance)"
    return f"{delta} ({'within' if cell.within else 'beyond'} ±{number(cell.tolerance)})"


def _score_notes(quantity: str, cells: Sequence[Any], footnotes: dict[str, int]) -> list[str]:
    splits: dict[str, Any] = dict.fromkeys(cell.task for cell in cells)
    splits |= {cell.task: cell for cell in sorted(cells, key=lambda cell: cell.n > 0)}  # a cell with runs, if any has
    published = {cell.task for cell in cells if cell.references}
    tasks_by_metric: dict[str, list[str]] = {}
    for cell in cells:
        tasks_by_metric.setdefault(cell.metric, []).append(cell.task)
    return notes(
        "scores",
        quantity=quantity,
        tasks_by_metric=tasks_by_metric,
        examples={
            task: None if pd.isna(cell.examples) else (int(cell.examples), cell.one_example)
            for task, cell in splits.items()
        },
        has_runs=any(cell.n for cell in cells),
        has_deltas=any(not pd.isna(cell.delta) for cell in cells),
        footnotes=footnotes,
        marks="".join(cell.marks for cell in cells),
        unpublished=[task for task in splits if task not in published],
    )


def _best_and_last(cells: DataFrame, runs: DataFrame) -> Table:
    """Scores at the best and the last epoch, of ours and of the published runs that have both."""
    own = runs[runs.role == "seed"]
    gap = own.assign(gap=own.score_best_dev - own.score_last_dev).groupby(CELL).gap.agg(["mean", "std"])
    rows = []
    for key, lines in groupby(each_row(cells), lambda line: (line.profile, line.cell)):
        by_name = {line.quantity: line for line in lines}
        best, last = (by_name[name] for name in DEV)
        released = [
            (float(a["value"]), float(b["value"]))
            for a in best.references
            for b in last.references
            if (a["source"], a["seed"]) == (b["source"], b["seed"])
        ]
        published, made = [NONE] * 3, [best.state] * 3
        if released:
            highest, final = released[0]
            published = [number(highest), number(final), number(highest - final, sign=True)]
        if best.n and last.n:
            difference = mean_and_std(gap["mean"][key], gap["std"][key], sign=True)
            made = [number(best.mean), number(last.mean), difference]
        if released or best.n:
            others = [f"{name} {number(line.mean)}" for name, line in by_name.items() if name not in DEV and line.n]
            rows.append([*_place(best), *published, *made, ", ".join(others) or NONE])
    labels = ("best dev", "last epoch", "best − last")
    heads = [*columns(*PLACE), *columns(*labels, group="published"), *columns(*labels, group="ours")]
    return Table("Best and last epoch", [*heads, Column("at the best dev epoch", "ours")], rows, notes("best_and_last"))


def paired_tests_table(tests: DataFrame) -> Table:
    """The rows of `paired_tests`: a test over seeds, one over examples, and what they could have found."""
    rows = []
    for test in each_row(tests):
        seeds, examples = test.seeds, test.examples
        row = [test.model, test.task, test.label, test.quantity, str(seeds.n), number(seeds.difference, sign=True)]
        row += ["identical"] * 2 if seeds.identical else [p_value(seeds.p), p_value(test.seeds_p)]
        if examples is None:
            row += [test.untested] * 3
        elif examples.identical:
            row += ["identical"] * 3
        else:
            mean, low, high = (number(100 * x, sign=True) for x in (examples.difference, examples.low, examples.high))
            metric = METRICS[test.metric if examples.kind == "mean" else examples.kind]
            row += [f"{mean} [{low}, {high}] {metric}", p_value(examples.p), p_value(test.examples_p)]
        caveats = ["".join(dict.fromkeys(test.marks)), "machine" * test.other_machine, *sorted(test.other_settings)]
        caveats.append("chance" * test.at_chance)
        rows.append([*row, at_most_100(test.detectable), listed(filter(None, caveats)) or NONE])
    heads = [
        *columns("model", "task", "difference", "of"),
        *columns("n", "mean", "p", "p (Holm)", group="over seeds"),
        *columns("95% interval", "p", "p (Holm)", group="over examples"),
        *columns("detectable", "caveats"),
    ]
    counts = sorted({test.n for test in tests.seeds})
    seeds = " to ".join(map(str, dict.fromkeys([*counts[:1], *counts[-1:]])))
    about = notes("paired_tests", seeds=seeds, comparisons=len(tests), marks="".join(tests.marks))
    return Table("Paired tests", heads, rows, about)


def _convergence(runs: DataFrame) -> Table:
    rows = [
        [
            *_place(cell),
            str(cell.epochs),
            f"{number(cell.rise, sign=True)} ({cell.n})",
            number(cell.noise) if cell.n > 1 else NONE,
            {True: "yes", False: "no", None: NOT_APPLICABLE}[cell.is_rising],
        ]
        for cell in each_row(convergence_frame(runs))
    ]
    heads = columns(*PLACE, "epochs", "rise", "noise", "rises by more than noise")
    return Table("The dev score in the last quarter of epochs", heads, rows, notes("convergence"))


def _learning_rates(runs: DataFrame) -> Table:
    rows = []
    for _, own in runs[runs.trial.notna()].sort_values("trial", kind="stable").groupby(CELL, sort=False):
        if own.run.notna().any():
            decided = own.learning_rate[own.role == "seed"]
            chosen = f"{decided.iloc[0]:g}" if len(decided) else "not all tried"
            if chose_highest(own):
                chosen += " (the highest)"
            scores = [f"{run.learning_rate:g}: {_trial(run)}" for run in each_row(own)]
            rows.append([*_place(own.iloc[0]), chosen, ", ".join(scores)])
    return Table(
        "Chosen of the candidates", columns(*PLACE, "chosen", "best dev of each"), rows, notes("learning_rates")
    )


def chose_highest(tried: DataFrame) -> bool | None:
    """Whether a cell chose the highest of the learning rates that it tried; None if it did not choose among several."""
    chosen = tried.learning_rate[tried.role == "seed"]
    return bool(chosen.iloc[0] == tried.learning_rate.max()) if len(chosen) and len(tried) > 1 else None


def _trial(run: Any) -> str:
    if run.status != "finished":
        return run.status
    return NONE if pd.isna(run.score_best_dev) else number(run.score_best_dev)


def _costs(cells: DataFrame) -> Table:
    done = cells[cells.runs > 0].drop_duplicates(CELL)
    machines = {machine: place for place, machine in enumerate(dict.fromkeys(done.hardware), start=1)}
    rows = [
        [
            *_place(cell),
            f"{cell.trainable_parameters:,}",
            f"{mean_and_std(cell.seconds_mean, cell.seconds_std, 0)} ({cell.timed})",
            f"{cell.peak_memory_bytes / 2**20:,.0f}",
            "none" if pd.isna(cell.adapter_bytes) else f"{cell.adapter_bytes / 2**20:,.2f}",
            f"[{machines[cell.hardware]}]{cell.marks}",
        ]
        for cell in each_row(done)
    ]
    labels = ("trainable parameters", "seconds", "peak memory, MiB", "adapter, MiB", "on")
    about = notes("costs", machines=machines, marks="".join(done.marks))
    return Table("What a run takes", columns(*PLACE, *labels), rows, about)


def _place(cell: Any) -> list[str]:
    value = f"{cell.setting} {cell.value}" if cell.setting else ""
    return [cell.model, cell.task, ", ".join(filter(None, [cell.row, value, cell.shown_profile]))]
