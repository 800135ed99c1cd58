"""The paired bootstrap of the difference between two sets of outcomes of the same examples (see `Task.outcomes`)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import bootstrap

CONFIDENCE = 0.95

RESAMPLES = 9999  # the least p is 2 / 10,000

RANDOM_SEED = 0  # of every bootstrap, so that the same outcomes give the same interval

EQUAL = 1e-9  # scores closer than this differ only by rounding


class ExampleTest(NamedTuple):
    """A paired bootstrap over examples.

    Attributes:
        kind: the score computed from the outcomes, "accuracy", "f1" or "mean" (of one term per example).
        difference: of the seed-averaged scores, the first minus the second, as fractions.
        low, high: its 95 % interval.
        p: two-sided: how often resampling changes the sign of the difference.
        identical: whether the outcome of every example is the same at every seed.
    """

    kind: str
    difference: float
    low: float
    high: float
    p: float
    identical: bool


def kind_of(outcomes: Sequence[Any]) -> str:
    """The kind of a run's outcomes: "accuracy" (0 and 1), "f1" (counts of entities) or "mean" (terms of a mean)."""
    if all(isinstance(outcome, list) for outcome in outcomes):
        return "f1"
    return "accuracy" if all(isinstance(outcome, int) for outcome in outcomes) else "mean"


def example_test(first: Sequence[Sequence[Any]], second: Sequence[Sequence[Any]]) -> ExampleTest:
    """The test of the difference of two seed-averaged scores (see `contrast_test`).

    Args:
        first, second: the outcomes of each seed, of the same seeds and of the same examples in the same order.
    """
    return contrast_test([first, second], [1, -1])


def contrast_test(sides: Sequence[Sequence[Sequence[Any]]], weights: Sequence[float]) -> ExampleTest:
    """The percentile bootstrap of a weighted sum of seed-averaged scores, resampling examples with all their outcomes.

    Args:
        sides: the outcomes of each seed of each score, of the same seeds and of the same examples in the same order.
        weights: one for each side; their sum is 0.
    """
    runs = [outcomes for side in sides for outcomes in side]
    kinds = {kind_of(outcomes) for outcomes in runs}
    kind = kinds.pop() if len(kinds) == 1 else "mean"
    if all(side == sides[0] for side in sides):
        return ExampleTest(kind, 0.0, 0.0, 0.0, 1.0, identical=True)
    outcomes = np.array(runs, dtype=float)
    factors = np.repeat(np.array(weights) / len(sides[0]), len(sides[0]))
    examples = outcomes.shape[1]
    if kind == "f1":
        counts = np.moveaxis(outcomes, 1, 0).reshape(examples, -1)  # [examples, runs * 3]
    else:
        terms = factors @ outcomes  # of each example

    def difference(index: np.ndarray, axis: int = -1) -> np.ndarray:
        if kind != "f1":
            return terms[index].mean(-1)
        drawn = index.reshape(-1, examples)
        shifted = drawn + examples * np.arange(len(drawn))[:, None]
        times = np.bincount(shifted.ravel(), minlength=drawn.size).reshape(drawn.shape)  # how often each was drawn
        scores = _micro_f1((times @ counts).reshape(len(drawn), -1, 3))
        return (scores @ factors).reshape(index.shape[:-1])

    observed = float(difference(np.arange(examples)))
    if examples == 1:  # nothing to draw anew
        return ExampleTest(kind, observed, observed, observed, 1.0, identical=False)
    result = bootstrap(
        (np.arange(examples),),
        difference,
        n_resamples=RESAMPLES,
        batch=max(1, 2**20 // examples),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(RANDOM_SEED),
    )
    drawn = result.bootstrap_distribution
    tail = min((drawn <= EQUAL).sum(), (drawn >= -EQUAL).sum())
    p = min(1.0, 2 * (1 + int(tail)) / (1 + RESAMPLES))
    low, high = (float(limit) for limit in result.confidence_interval)
    return ExampleTest(kind, observed, low, high, p, identical=False)


def _micro_f1(counts: np.ndarray) -> np.ndarray:
    """F1 of counts [..., 3]: right, predicted and gold entities; 0 where there are none."""
    right, predicted, gold = np.moveaxis(counts, -1, 0)
    total = predicted + gold
    return np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)
