"""What numbers can tell: means over seeds, how far two may lie apart by chance, paired tests. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 1999

CONFIDENCE = 0.95

SEED = 0  # of every bootstrap, so that the same outcomes give the same interval

SAME = 1e-9  # scores closer than this differ by rounding alone


@dataclass(frozen=True)
class Summary:
    """Some scores: their mean, sample standard deviation (None with one of them), number and range."""

    mean: float
    std: float | None
    n: int
    low: float
    high: float


def summary(scores: Sequence[float]) -> Summary:
    """The summary of one score or more."""
    std = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return Summary(float(np.mean(scores)), std, len(scores), min(scores), max(scores))


def tolerance(ours: Summary, one_example: float | None) -> float | None:
    """How far a single published run may lie from our mean by seed noise alone; None where one seed tells nothing.

    The half-width of the 95 % prediction interval for one more run, t · std · √(1 + 1/n), where the published run's
    noise is taken to be ours; but no less than what one example weighs, where that is known.
    """
    if ours.std is None:
        return None
    from scipy.stats import t

    noise = float(t.ppf((1 + CONFIDENCE) / 2, ours.n - 1)) * ours.std * math.sqrt(1 + 1 / ours.n)
    return max(one_example or 0.0, noise)


@dataclass(frozen=True)
class OverSeeds:
    """A paired t-test over seeds.

    Attributes:
        n: the number of seeds that both have.
        difference: the mean of the first less the second, None where they share no seed.
        p: None where there is no test: one seed, or the same difference at every seed but not zero.
        identical: whether the scores are equal at every seed.
    """

    n: int
    difference: float | None
    p: float | None
    identical: bool


def over_seeds(first: Mapping[int, float], second: Mapping[int, float]) -> OverSeeds:
    """The paired t-test of the scores of equal seeds."""
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return OverSeeds(0, None, None, identical=False)
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    mean = float(differences.mean())
    if np.abs(differences).max() < SAME:
        return OverSeeds(len(seeds), 0.0, 1.0, identical=True)
    if len(seeds) == 1 or np.ptp(differences) < SAME:
        return OverSeeds(len(seeds), mean, None, identical=False)
    from scipy.stats import ttest_rel

    p = ttest_rel([first[seed] for seed in seeds], [second[seed] for seed in seeds]).pvalue
    return OverSeeds(len(seeds), mean, float(p), identical=False)


@dataclass(frozen=True)
class OverExamples:
    """A paired bootstrap over examples.

    Attributes:
        kind: what the outcomes give: "accuracy", "f1" or, for terms, "mean".
        difference: of the seed-averaged scores, the first less the second.
        low, high: its 95 % interval.
        p: two-sided: how often resampling turns the difference's sign.
        identical: whether every example came out the same at every seed.
    """

    kind: str
    difference: float
    low: float
    high: float
    p: float
    identical: bool


def kind_of(outcomes: Sequence[Any]) -> str:
    """What a run's outcomes are: "accuracy" (0 and 1), "f1" (counts of entities) or "mean" (terms of a mean)."""
    if all(isinstance(outcome, list) for outcome in outcomes):
        return "f1"
    return "accuracy" if all(isinstance(outcome, int) for outcome in outcomes) else "mean"


def over_examples(first: Sequence[Sequence[Any]], second: Sequence[Sequence[Any]]) -> OverExamples:
    """The percentile bootstrap of the difference: examples are drawn anew, with all that both made of them.

    Args:
        first, second: one sequence of outcomes a seed, of the same seeds and of the same examples in the same order.
    """
    from scipy.stats import bootstrap

    kind = "f1" if kind_of(first[0]) == "f1" else "accuracy"
    if kind != "f1" and "mean" in {kind_of(outcomes) for outcomes in (*first, *second)}:
        kind = "mean"
    a, b = np.array(first, dtype=float), np.array(second, dtype=float)
    if np.array_equal(a, b):
        return OverExamples(kind, 0.0, 0.0, 0.0, 1.0, identical=True)
    score = _micro_f1 if kind == "f1" else _mean
    if kind != "f1":
        a, b = a[..., None], b[..., None]
    examples = a.shape[1]

    def difference(index: np.ndarray, axis: int = -1) -> np.ndarray:
        times = np.stack([np.bincount(drawn, minlength=examples) for drawn in index.reshape(-1, examples)])
        return (score(times @ a / examples) - score(times @ b / examples)).reshape(index.shape[:-1])

    found = bootstrap(
        (np.arange(examples),),
        difference,
        n_resamples=RESAMPLES,
        batch=max(1, 2**20 // examples),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    drawn = found.bootstrap_distribution
    tail = min((drawn <= SAME).sum(), (drawn >= -SAME).sum())
    p = min(1.0, 2 * (1 + int(tail)) / (1 + RESAMPLES))
    low, high = (float(limit) for limit in found.confidence_interval)
    return OverExamples(kind, float(difference(np.arange(examples))), low, high, p, identical=False)


def _mean(means: np.ndarray) -> np.ndarray:
    """Of means over examples, [seeds, draws, 1]: averaged over seeds."""
    return means[..., 0].mean(0)


def _micro_f1(counts: np.ndarray) -> np.ndarray:
    """Of counts, [seeds, draws, 3] (right, predicted, gold): F1, averaged over seeds."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    either = predicted + gold
    return np.divide(2 * right, either, out=np.zeros_like(either), where=either > 0).mean(0)


def mcnemar(first: Sequence[int], second: Sequence[int]) -> float:
    """The p of McNemar's exact test: whether the examples that one alone got right are shared out by chance."""
    from scipy.stats import binomtest

    ours = sum(a > b for a, b in zip(first, second, strict=True))
    theirs = sum(a < b for a, b in zip(first, second, strict=True))
    return float(binomtest(ours, ours + theirs, 0.5).pvalue) if ours + theirs else 1.0


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of a family of p-values; None stays None and does not count."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted
