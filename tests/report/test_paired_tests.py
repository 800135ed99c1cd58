"""Means, tolerances and paired tests, against numbers worked out by hand and properties."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas import Series
from scipy.stats import ttest_1samp, ttest_rel

from spt.records.bootstrap import contrast_test, example_test, kind_of
from spt.report.paired_tests import detectable, holm, seed_test
from spt.report.seed_means import tolerance

PERCENT = st.floats(0, 100)
CASES = [  # standard deviation, number of seeds, weight of one example
    (math.sqrt(13), 3, math.nan),
    (0.0, 3, 100 / 277),
    (math.sqrt(13), 3, 0.1),
    (math.nan, 1, 1.0),
    (math.nan, 0, 1.0),
]
WRONG_OR_RIGHT = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=30)


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_the_tolerance_is_the_range_of_one_more_run_and_no_less_than_an_example():
    std, n, one_example = (Series(values, dtype=float) for values in zip(*CASES, strict=True))
    found = list(tolerance(std, n, one_example))
    assert found[0] == pytest.approx(4.30265 * math.sqrt(13) * math.sqrt(4 / 3), rel=1e-5)  # t, 2 degrees of freedom
    assert found[1] == 100 / 277
    assert found[2] == found[0]
    assert math.isnan(found[3]) and math.isnan(found[4])


@settings(max_examples=30)
@given(st.lists(st.tuples(PERCENT, PERCENT), min_size=1, max_size=5))
def test_over_seeds_turns_its_sign_with_its_sides(pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # differences that are all but equal
        one, other = seed_test([a - b for a, b in pairs]), seed_test([b - a for a, b in pairs])
    assert one.n == len(pairs) and one.difference == pytest.approx(-other.difference, abs=1e-9)
    assert one.identical == other.identical
    assert one.p == other.p if one.p is None else one.p == pytest.approx(other.p, nan_ok=False)


def test_over_seeds_is_the_paired_t_test():
    found = seed_test([1.0, 1.0, 7.0])
    assert (found.n, found.difference) == (3, 3.0)
    assert found.p == pytest.approx(ttest_rel([70, 72, 77], [69, 71, 70]).pvalue)


def test_over_seeds_has_no_p_where_there_is_no_test():
    assert seed_test([1.0]).p is None
    assert seed_test([1.0, 1.0]).p is None
    same = seed_test([0.0, 0.0])
    assert same.identical and (same.difference, same.p) == (0, 1)


@pytest.mark.parametrize(("n", "level", "upper"), [(3, 0.05, 1.959964), (5, 0.05, 1.959964), (5, 0.01, 2.575829)])
def test_a_detectable_difference_is_found_by_each_test_with_a_power_of_80_percent(n, level, upper):
    """Over seeds by simulation, over examples by the normal quantiles; the larger difference of the two counts."""
    draws = np.random.default_rng(0)
    seeds = seed_test([1.0, 2.0, 3.0, 5.0, 1.5][:n])
    examples = example_test([[1] * 600 + [0] * 400], [[1] * 500 + [0] * 500])
    few = examples._replace(low=0.099, high=0.101)
    difference = detectable(seeds, few, "accuracy", level)
    found = ttest_1samp(draws.normal(difference, seeds.std, (50000, n)), 0, axis=1).pvalue < level
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    over_examples = (upper + 0.841621) * 100 * (examples.high - examples.low) / (2 * 1.959964)
    alike = seeds._replace(std=0.001)
    assert detectable(alike, examples, "accuracy", level) == pytest.approx(over_examples)
    assert detectable(seeds, examples, "accuracy", level) == max(
        difference, detectable(alike, examples, "accuracy", level)
    )


def test_nothing_is_detectable_where_a_test_cannot_be_made_or_is_of_another_score():
    seeds = seed_test([10.0, 12.0])
    examples = example_test([[1, 1, 0, 1]], [[1, 0, 0, 1]])
    assert detectable(seeds, examples, "accuracy") > 0
    same = seed_test([0.0, 0.0])
    for of_seeds, of_examples, metric in (
        (seeds, None, "accuracy"),
        (seed_test([10.0]), examples, "accuracy"),
        (same, examples, "accuracy"),
        (seeds, examples, "matthews"),
    ):
        assert math.isnan(detectable(of_seeds, of_examples, metric))


def test_the_bootstrap_of_a_weighted_sum_is_that_of_the_difference():
    """Three runs in a line: their slope, by weights −½, 0, ½, is half the difference of the outer ones."""
    runs = [[0] * 60 + [1] * 40, [0] * 50 + [1] * 50, [0] * 30 + [1] * 70]
    slope, ends = contrast_test([[run] for run in runs], [-0.5, 0, 0.5]), example_test([runs[2]], [runs[0]])
    assert (slope.difference, slope.low, slope.high) == pytest.approx(
        (ends.difference / 2, ends.low / 2, ends.high / 2)
    )
    assert slope.p == ends.p and not slope.identical
    assert contrast_test([[runs[0], runs[1]]] * 3, [-0.5, 0, 0.5]).identical


def test_one_example_has_no_interval():
    found = example_test([[1]], [[0]])
    assert (found.difference, found.low, found.high, found.p) == (1, 1, 1, 1)


@settings(max_examples=25)
@given(WRONG_OR_RIGHT)
def test_over_examples_of_classes(pairs):
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    found, turned = example_test([first], [second]), example_test([second], [first])
    assert found == example_test([first], [second])  # the same draws each time
    assert found.kind == "accuracy" and found.identical == (first == second)
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert found.low <= found.high and 0 < found.p <= 1
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.difference, -found.high, -found.low))
    assert turned.p == pytest.approx(found.p)


def test_over_examples_averages_over_seeds_and_knows_a_clear_difference():
    first, second = [[1] * 100, [1] * 90 + [0] * 10], [[0] * 50 + [1] * 50, [0] * 50 + [1] * 50]
    found = example_test(first, second)
    assert found.difference == pytest.approx(0.45) and found.p == pytest.approx(2 / 10_000)
    spread = np.std(np.mean(first, 0) - np.mean(second, 0)) / 10
    assert found.low == pytest.approx(0.45 - 1.96 * spread, abs=0.02)
    assert found.high == pytest.approx(0.45 + 1.96 * spread, abs=0.02)


def test_over_examples_of_entities_is_micro_f1():
    first, second = [[2, 2, 3], [0, 1, 0], [1, 1, 1]], [[1, 1, 3], [0, 0, 0], [0, 2, 1]]
    found = example_test([first], [second])
    assert found.kind == "f1" and found.difference == pytest.approx(2 * 3 / (4 + 4) - 2 * 1 / (3 + 4))
    nothing = example_test([[[0, 0, 0], [0, 0, 1]]], [[[0, 0, 0], [1, 1, 1]]])
    assert nothing.difference == -1 and nothing.low == -1  # no entity at all: F1 is 0, not NaN


def test_over_examples_of_terms_is_their_mean():
    found = example_test([[0.5, 1.5, -0.2]], [[0.1, 0.9, 0.2]])
    assert found.kind == "mean" and found.difference == pytest.approx(0.2)
    assert kind_of([1.0, 0.0]) == "mean" and kind_of([1, 0]) == "accuracy" and kind_of([[0, 0, 0]]) == "f1"


def test_holm():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == [] and math.isnan(*holm([None]))
