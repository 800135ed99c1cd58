"""Paired tests between rows of a table: over seeds and over examples, with Holm's correction."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame, Series
from scipy.optimize import brentq
from scipy.stats import nct, norm, t, ttest_1samp

from spt.grid.match_records import Finished
from spt.records.bootstrap import CONFIDENCE, EQUAL, RESAMPLES, ExampleTest, contrast_test
from spt.report.number_format import BASELINES
from spt.report.runs_frame import CELL, each_row, hardware
from spt.report.seed_means import unselected

REFERENCE = "prefix_tuning"  # each row is compared with it; in a table without it, with the first row

# In this order, whichever row is the reference.
ALSO_COMPARED = (("spt", "fine_tuning"), ("spt_sl", "fine_tuning"), ("spt_sl", "spt"), ("spt", "ungated"))

PLACE = ("profile", "table", "model", "task", "metric", "setting", "value")  # columns of both frames

COLUMNS = (
    *(*PLACE, "first", "second", "second_value", "label", "quantity", "are_done", "seeds", "examples"),
    *("untested", "marks", "other_machine", "other_settings", "at_chance", "sl_weights", "train_examples", "folders"),
)

BOTH_HAVE = ("method.prefix_length", "method.alpha")  # settings of methods that are a caveat if both have them

LENGTH, LEAST_POINTS = "method.prefix_length", 3  # the setting whose trend is tested, and how many lengths it takes

LEVEL = 0.05  # a difference is significant if its p is smaller

# Tables with more are not tested over examples: even the least p of the bootstrap would miss `LEVEL` after Holm's
# correction.
MOST_COMPARISONS = math.ceil(LEVEL * (1 + RESAMPLES) / 2) - 1

POWER = 0.8  # of the tests at a difference that is called detectable


class SeedTest(NamedTuple):
    """A paired t-test over seeds.

    Attributes:
        n: the number of seeds that both have.
        difference: the mean of the first minus the second.
        std: the sample standard deviation of the differences; None of one seed.
        p: None if there is no test: one seed, or the same nonzero difference at every seed.
        identical: whether the scores are equal at every seed.
    """

    n: int
    difference: float
    std: float | None
    p: float | None
    identical: bool


class Contrast(NamedTuple):
    """A weighted sum of the scores of some cells, and what the columns of `paired_tests` say of it."""

    cells: Sequence[Any]
    weights: Sequence[float]
    first: str
    second: str
    value: str
    second_value: str
    label: str


def paired_tests(cells: DataFrame, runs: DataFrame) -> DataFrame:
    """A row per comparison between two cells of a table that share a seed.

    Columns: `profile`, `table`, `model`, `task`, `metric`, `first`, `second` (the rows of the two cells), `setting`,
    `value`, `second_value` (what is swept, and its values), `label` (what is subtracted from what), `quantity`,
    `are_done` (whether both cells have all their runs), `seeds` (a `SeedTest`, in points), `examples` (an
    `ExampleTest`, or None for the reason `untested`: "other data", or "not tested" among more than `MOST_COMPARISONS`),
    `marks` (of both cells), `other_machine` (whether the two runs of any seed were made on different machines),
    `other_settings` (those in which the two runs of any seed differ, but for what is swept; of the method's own only
    `BOTH_HAVE`), `train_examples` (None: all),
    `at_chance` (whether neither mean is above the scores of the majority class and of random classes), `sl_weights`
    (the λs of the first cell's runs), `folders` (of the runs compared), and what `corrected` adds.

    Args:
        cells: the `cells_frame` of one table.
        runs: its `runs_frame`.
    """
    return _tested(_pairs(cells), cells, runs)


def trends(cells: DataFrame, runs: DataFrame) -> DataFrame:
    """A row per row of a table that is swept over prefix lengths, with the columns of `paired_tests`.

    What is tested is the least-squares slope of the score over log2 of the length, in points per doubling: `difference`
    is its mean over the seeds that all lengths have. `second` is empty.

    Args:
        cells: the `cells_frame` of one table.
        runs: its `runs_frame`.
    """
    return _tested(_sweeps(cells), cells, runs)


def _tested(contrasts: Iterable[Contrast], cells: DataFrame, runs: DataFrame) -> DataFrame:
    own = runs.loc[(runs.role == "seed") & runs.run.notna(), [*CELL, "seed", "run"]]
    by_seed = {(row.profile, row.cell, row.seed): row.run for row in each_row(own)}
    done: dict[tuple[str, str], dict[str, Any]] = {}
    for row in each_row(cells.loc[cells.n > 0, [*CELL, "quantity", "scores", *BASELINES]]):
        done.setdefault((row.profile, row.cell), {})[row.quantity] = row
    rows, compared = [], []
    for contrast in contrasts:
        of_each = [done.get((cell.profile, cell.cell), {}) for cell in contrast.cells]
        quantity = unselected(name for name in of_each[0] if all(name in of for of in of_each))
        scores = [of[quantity].scores if quantity in of else {} for of in of_each]
        if seeds := [seed for seed in scores[0] if all(seed in own for own in scores)]:
            runs_of = [[by_seed[cell.profile, cell.cell, seed] for seed in seeds] for cell in contrast.cells]
            compared.append((runs_of, contrast.weights))
            machines = [[hardware(run.record) for run in own] for own in runs_of]
            sums = {seed: sum(w * own[seed] for w, own in zip(contrast.weights, scores, strict=True)) for seed in seeds}
            rows.append(
                {
                    **{name: getattr(contrast.cells[0], name) for name in PLACE},
                    **{name: getattr(contrast, name) for name in ("first", "second", "value", "second_value", "label")},
                    "quantity": quantity,
                    "are_done": all(cell.cell_state == "done" for cell in contrast.cells),
                    "seeds": seed_test([sums[seed] for seed in sorted(sums)]),
                    "marks": "".join(cell.marks for cell in contrast.cells),
                    "other_machine": any(own != machines[0] for own in machines),
                    "other_settings": _other_settings(runs_of) - {contrast.cells[0].setting},
                    "at_chance": max(fmean(own.values()) for own in scores) <= _chance(of_each[0][quantity]),
                    "sl_weights": tuple(dict.fromkeys(_sl_weight(run) for run in runs_of[0])),
                    "train_examples": runs_of[0][0].settings.get("task.train_examples"),
                    "folders": tuple(run.folder.name for own in runs_of for run in own),
                }
            )
    are_tested = len(rows) <= MOST_COMPARISONS
    for row, (runs_of, weights) in zip(rows, compared, strict=True):
        row |= _tests_over_examples(runs_of, weights, row["quantity"]) if are_tested else _untested("not tested")
    return corrected(DataFrame(rows, columns=COLUMNS))


def _chance(cell: Any) -> float:
    """The best score without a model; NaN if none is known."""
    return float(np.fmax.reduce([getattr(cell, name) for name in BASELINES]))


def _sl_weight(run: Finished) -> float:
    return float(run.record["config"]["method"].get("sl_weight") or 0)


def _other_settings(runs: Sequence[Sequence[Finished]]) -> set[str]:
    first, *others = runs
    pairs = [(a.settings, b.settings) for second in others for a, b in zip(first, second, strict=True)]
    names = {name for a, b in pairs for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
    shared = {name for name in BOTH_HAVE if all(name in own for pair in pairs for own in pair)}
    return {name for name in names if name in shared or not name.startswith("method.")}


def corrected(tests: DataFrame) -> DataFrame:
    """The rows of `paired_tests` as one family of comparisons.

    Adds `seeds_p` and `examples_p`, corrected for the number of comparisons, and `detectable` (see there) with that
    correction.
    """
    seeds, examples = ([test and test.p for test in tests[name]] for name in ("seeds", "examples"))
    level = LEVEL / max(1, *(sum(p is not None for p in ps) for ps in (seeds, examples)))
    least = [detectable(row.seeds, row.examples, row.metric, level) for row in each_row(tests)]
    return tests.assign(seeds_p=holm(seeds), examples_p=holm(examples), detectable=least)


def detectable(seeds: SeedTest, examples: ExampleTest | None, metric: str, level: float = LEVEL) -> float:
    """The smallest difference, in points, that each of the two tests would find with a power of `POWER`.

    Over seeds δ · std / √n, with δ the noncentrality at which the t-test has this power; over examples
    (z₁₋ₗ/₂ + z₀.₈) standard errors, of which the bootstrap's interval has 2 · z₀.₉₇₅; the larger of the two. NaN if
    either test cannot be made, or is of another score than `metric`.

    Args:
        level: l. Of m comparisons, 0.05 / m: a p below it is significant whatever the others are.
    """
    if seeds.p is None or not seeds.std or examples is None or examples.identical:
        return math.nan
    if examples.kind not in ("mean", metric):
        return math.nan
    standard_error = 100 * (examples.high - examples.low) / (2 * norm.ppf((1 + CONFIDENCE) / 2))
    over_examples = standard_error * (norm.ppf(1 - level / 2) + norm.ppf(POWER))
    return float(max(_noncentrality(seeds.n, level) * seeds.std / math.sqrt(seeds.n), over_examples))


@cache
def _noncentrality(n: int, level: float) -> float:
    """The mean difference, in standard errors, at which a paired t-test of n pairs has the power `POWER`."""
    critical = t.ppf(1 - level / 2, n - 1)
    return float(brentq(lambda mean: nct.sf(critical, n - 1, mean) - POWER, 0, 2 * critical))


def _pairs(cells: DataFrame) -> Iterator[Contrast]:
    """The pairs of cells to compare: rows, at each point of a sweep; and the points of a row with its reference.

    If the table names no reference, the points of a single row are compared with the first, those of several not.
    """
    place = ["profile", "model", "task"]
    every = each_row(cells.drop_duplicates(CELL).sort_values(place, kind="stable"))
    for _, group in groupby(every, lambda cell: [getattr(cell, name) for name in place]):
        own = list(group)
        rows = list(dict.fromkeys(cell.row for cell in own))
        for row in rows:
            points = [cell for cell in own if cell.row == row]
            base = next((cell for cell in points if cell.is_reference), points[0] if len(rows) == 1 else None)
            yield from (_pair(cell, base) for cell in points if base is not None and cell is not base)
        reference = REFERENCE if REFERENCE in rows else rows[0]
        pairs = [(row, reference) for row in rows if row != reference and (reference, row) not in ALSO_COMPARED]
        pairs += [pair for pair in ALSO_COMPARED if pair not in pairs]
        by_place = {(cell.row, cell.value): cell for cell in own}
        for value in dict.fromkeys(cell.value for cell in own):
            for first, second in pairs:
                if (first, value) in by_place and (second, value) in by_place:
                    yield _pair(by_place[first, value], by_place[second, value])


def _pair(first: Any, second: Any) -> Contrast:
    return Contrast((first, second), (1, -1), first.row, second.row, first.value, second.value, _label(first, second))


def _sweeps(cells: DataFrame) -> Iterator[Contrast]:
    """The sweeps over prefix lengths, with the weights of the least-squares slope over log2 of the length."""
    swept = cells[cells.setting == LENGTH].drop_duplicates(CELL)
    swept = swept.assign(length=swept.value.astype(float))
    for (_, _, _, row), points in swept.groupby(["profile", "model", "task", "row"], sort=False):
        if len(points) >= LEAST_POINTS:
            doublings = np.log2(points.length)
            from_mean = doublings - doublings.mean()
            value = f"{points.value[points.length.idxmin()]} to {points.value[points.length.idxmax()]}"
            label = f"{row}, per doubling of {LENGTH}, {value}"
            weights = tuple(from_mean / (from_mean**2).sum())
            yield Contrast(each_row(points), weights, row, "", value, "", label)


def _label(first: Any, second: Any) -> str:
    if first.row == second.row:
        return f"{first.row}, {first.setting}: {first.value} − {second.value}"
    return f"{first.row} − {second.row}" + (f", {first.setting} {first.value}" if first.setting else "")


def _tests_over_examples(runs: Sequence[Sequence[Any]], weights: Sequence[float], quantity: str) -> dict[str, Any]:
    if len({run.record["data"]["fingerprint"] for own in runs for run in own}) > 1:
        return _untested("other data")
    sides = [[run.outcomes[quantity] for run in own] for own in runs]
    return {"examples": contrast_test(sides, weights), "untested": ""}


def _untested(reason: str) -> dict[str, Any]:
    return {"examples": None, "untested": reason}


def seed_test(differences: Sequence[float]) -> SeedTest:
    """The paired t-test over seeds, of the difference of the two scores at each seed."""
    d = np.array(differences)
    if np.abs(d).max() < EQUAL:
        return SeedTest(len(d), 0.0, 0.0, 1.0, identical=True)
    p = float(ttest_1samp(d, 0).pvalue) if len(d) > 1 and np.ptp(d) >= EQUAL else None
    std = float(d.std(ddof=1)) if len(d) > 1 else None
    return SeedTest(len(d), float(d.mean()), std, p, identical=False)


def holm(ps: Sequence[float | None]) -> list[float]:
    """Holm's correction of a family of p-values; None does not count and becomes NaN."""
    known = Series(ps, dtype=float).dropna().sort_values(kind="stable")
    adjusted = (known * np.arange(len(known), 0, -1)).clip(upper=1).cummax()
    return adjusted.reindex(range(len(ps))).tolist()
