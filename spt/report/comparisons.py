"""Which rows of a table are compared, and what paired tests say of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from spt.grid.match_records import Result
from spt.report.measured import lines, scores_of, unselected
from spt.report.significance import OverExamples, OverSeeds, kind_of, mcnemar, over_examples, over_seeds

REFERENCE = "prefix_tuning"

FURTHER = (("spt_sl", "spt"),)  # what else is compared, where a table has both

RULE = (
    f"each row against {REFERENCE}, or where a table has none against its first row; also "
    + ", ".join(" against ".join(pair) for pair in FURTHER)
    + "; in a sweep of one row, each point against the first"
)


@dataclass(frozen=True)
class Comparison:
    """Two cells of a table on one task with one model."""

    first: Result
    second: Result

    @property
    def label(self) -> str:
        """The rows, or the points of the row."""
        a, b = self.first.cell, self.second.cell
        if a.row == b.row and a.point and b.point:
            return f"{a.row}, {a.point[0]}: {a.point[1]} − {b.point[1]}"
        return f"{a.row} − {b.row}" + (f", {a.point[0]} {a.point[1]}" if a.point else "")

    @cached_property
    def quantity(self) -> str:
        """Of a split that selected nothing where both have scores of one, else best_dev."""
        theirs = {line.quantity for line in lines([self.second]) if line.scores}
        return unselected([line.quantity for line in lines([self.first]) if line.scores and line.quantity in theirs])

    @cached_property
    def seeds(self) -> list[int]:
        """Those that both have a score of."""
        return [
            seed
            for seed in self.first.cell.seeds
            if seed in self._scores(self.first).keys() & self._scores(self.second)
        ]

    @cached_property
    def over_seeds(self) -> OverSeeds:
        """The t-test, in points."""
        return over_seeds(self._scores(self.first), self._scores(self.second))

    @cached_property
    def same_data(self) -> bool:
        """Whether all the runs saw the same examples."""
        runs = [result.done[seed] for result in (self.first, self.second) for seed in self.seeds]
        return len({run.record["data"]["fingerprint"] for run in runs}) == 1

    @cached_property
    def over_examples(self) -> OverExamples | None:
        """The bootstrap, in fractions; None where the runs did not see the same data."""
        return over_examples(self._outcomes(self.first), self._outcomes(self.second)) if self.same_data else None

    @cached_property
    def mcnemar(self) -> list[float]:
        """McNemar's p of each seed; none where outcomes are no classes, or not of the same examples."""
        pairs = zip(self._outcomes(self.first), self._outcomes(self.second), strict=True) if self.same_data else ()
        return [mcnemar(a, b) for a, b in pairs if kind_of(a) == kind_of(b) == "accuracy"]

    def _scores(self, result: Result) -> dict[int, float]:
        return scores_of(result, self.quantity)

    def _outcomes(self, result: Result) -> list[list]:
        return [result.done[seed].outcomes[self.quantity] or [] for seed in self.seeds]


def comparisons(results: Iterable[Result]) -> list[Comparison]:
    """Those of one table between cells that share a seed."""

    def place(result: Result) -> tuple[str, str, str]:
        return result.cell.profile, result.cell.model, result.cell.task

    found = []
    for _, group in groupby(sorted(results, key=place), key=place):
        found += _within(list(group))
    return [comparison for comparison in found if comparison.seeds]


def _within(group: list[Result]) -> list[Comparison]:
    rows = list(dict.fromkeys(result.cell.row for result in group))
    if len(rows) == 1:
        return [Comparison(result, group[0]) for result in group[1:]]
    reference = REFERENCE if REFERENCE in rows else rows[0]
    pairs = [(row, reference) for row in rows if row != reference]
    pairs += [pair for pair in FURTHER if set(pair) <= set(rows) and reference not in pair]
    by_place = {(result.cell.row, result.cell.point): result for result in group}
    points = dict.fromkeys(result.cell.point for result in group)
    return [
        Comparison(by_place[first, point], by_place[second, point])
        for point in points
        for first, second in pairs
        if (first, point) in by_place and (second, point) in by_place
    ]
