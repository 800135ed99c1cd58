"""Paired tests between rows of a table: over seeds, over examples, and McNemar's, with Holm's correction."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame
from scipy.stats import binomtest, ttest_rel

from spt.records.paired_bootstrap import EQUAL, example_test, kind_of
from spt.report.runs_frame import CELL, rows_of
from spt.report.seed_means import unselected

REFERENCE = "prefix_tuning"  # each row is compared with it; in a table without it, with the first row

MOST_COMPARISONS = 100  # of a table that is tested over examples, for which a comparison takes some 30 ms

ALSO_COMPARED = (("spt_sl", "spt"),)


class SeedTest(NamedTuple):
    """A paired t-test over seeds.

    Attributes:
        n: the number of seeds that both have.
        difference: the mean of the first minus the second; None if they share no seed.
        p: None if there is no test: one seed, or the same nonzero difference at every seed.
        identical: whether the scores are equal at every seed.
    """

    n: int
    difference: float | None
    p: float | None
    identical: bool


def paired_tests(cells: DataFrame, runs: DataFrame) -> DataFrame:
    """A row per comparison between two cells of a table that share a seed.

    Columns: `profile`, `model`, `task`, `metric`, `label` (what is subtracted from what), `quantity`, `are_done`
    (whether both cells have all their runs), `seeds` (a `SeedTest`, in points), `examples` (an `ExampleTest`, or None
    for the reason `untested`: "other data", or "not tested" among more than `MOST_COMPARISONS`), `mcnemar` (its p per
    seed, empty unless outcomes are right or wrong), and the p-values corrected for the number of rows, `seeds_p` and
    `examples_p`.

    Args:
        cells: the `cells_frame` of one table.
        runs: its `runs_frame`.
    """
    own = runs[(runs.role == "seed") & runs.run.notna()]
    by_seed = {(row.profile, row.cell, row.seed): row.run for row in rows_of(own)}
    scores: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for row in rows_of(cells[cells.n > 0]):
        scores.setdefault((row.profile, row.cell), {})[row.quantity] = row.scores
    rows, compared = [], []
    for first, second in _pairs(cells):
        of_first, of_second = (scores.get((cell.profile, cell.cell), {}) for cell in (first, second))
        quantity = unselected(name for name in of_first if name in of_second)
        a, b = of_first.get(quantity, {}), of_second.get(quantity, {})
        if seeds := [seed for seed in a if seed in b]:
            compared.append([[by_seed[cell.profile, cell.cell, seed] for seed in seeds] for cell in (first, second)])
            rows.append(
                {
                    **{name: getattr(first, name) for name in ("profile", "model", "task", "metric")},
                    "label": _label(first, second),
                    "quantity": quantity,
                    "are_done": first.cell_state == second.cell_state == "done",
                    "seeds": seed_test(a, b),
                }
            )
    are_tested = len(rows) <= MOST_COMPARISONS
    for row, pairs in zip(rows, compared, strict=True):
        row |= _tests_over_examples(pairs, row["quantity"]) if are_tested else _untested("not tested")
    columns = ["profile", "model", "task", "metric", "label", "quantity", "are_done", "seeds"]
    tests = DataFrame(rows, columns=[*columns, "examples", "untested", "mcnemar"])
    tests["seeds_p"] = holm([test.p for test in tests.seeds])
    tests["examples_p"] = holm([test and test.p for test in tests.examples])
    return tests


def _pairs(cells: DataFrame) -> Iterator[tuple[Any, Any]]:
    """The pairs of cells to compare; in a sweep of a single row, each point with the first."""
    place = ["profile", "model", "task"]
    every = rows_of(cells.drop_duplicates(CELL).sort_values(place, kind="stable"))
    for _, group in groupby(every, lambda cell: [getattr(cell, name) for name in place]):
        own = list(group)
        rows = list(dict.fromkeys(cell.row for cell in own))
        if len(rows) == 1:
            yield from ((cell, own[0]) for cell in own[1:])
            continue
        reference = REFERENCE if REFERENCE in rows else rows[0]
        pairs = [(row, reference) for row in rows if row != reference]
        pairs += [pair for pair in ALSO_COMPARED if reference not in pair]
        by_place = {(cell.row, cell.value): cell for cell in own}
        for value in dict.fromkeys(cell.value for cell in own):
            for first, second in pairs:
                if (first, value) in by_place and (second, value) in by_place:
                    yield by_place[first, value], by_place[second, value]


def _label(first: Any, second: Any) -> str:
    if first.row == second.row:
        return f"{first.row}, {first.setting}: {first.value} − {second.value}"
    return f"{first.row} − {second.row}" + (f", {first.setting} {first.value}" if first.setting else "")


def _tests_over_examples(pairs: Sequence[Sequence[Any]], quantity: str) -> dict[str, Any]:
    if len({run.record["data"]["fingerprint"] for runs in pairs for run in runs}) > 1:
        return _untested("other data")
    first, second = ([run.outcomes[quantity] or [] for run in runs] for runs in pairs)
    p = [mcnemar(a, b) for a, b in zip(first, second, strict=True) if kind_of(a) == kind_of(b) == "accuracy"]
    return {"examples": example_test(first, second), "untested": "", "mcnemar": p}


def _untested(reason: str) -> dict[str, Any]:
    return {"examples": None, "untested": reason, "mcnemar": []}


def seed_test(first: Mapping[int, float], second: Mapping[int, float]) -> SeedTest:
    """The paired t-test of the scores by seed, at the seeds that both have."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return SeedTest(0, None, None, identical=False)
    a, b = (np.array([scores[seed] for seed in seeds]) for scores in (first, second))
    if np.abs(a - b).max() < EQUAL:
        return SeedTest(len(seeds), 0.0, 1.0, identical=True)
    has_test = len(seeds) > 1 and np.ptp(a - b) >= EQUAL
    p = float(ttest_rel(a, b).pvalue) if has_test else None
    return SeedTest(len(seeds), float((a - b).mean()), p, identical=False)


def mcnemar(first: Sequence[int], second: Sequence[int]) -> float:
    """The p-value of McNemar's exact test on the examples that only one of two runs got right."""
    only_first = sum(a > b for a, b in zip(first, second, strict=True))
    only_second = sum(a < b for a, b in zip(first, second, strict=True))
    n = only_first + only_second
    return float(binomtest(only_first, n, 0.5).pvalue) if n else 1.0


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of a family of p-values; None stays None and does not count."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted
