"""What the runs of all tables answer: for each question an answer from the paired tests, and the tests themselves."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas import DataFrame, Series

from spt.report.number_format import listed, number
from spt.report.paired_tests import LENGTH, LEVEL, corrected
from spt.report.render_templates import notes
from spt.report.table_model import Table
from spt.report.tables import paired_tests_table

LITTLE = 500  # training examples
ENOUGH = f"with all training examples, or more than {LITTLE}"
MOST_NAMED = 1  # differences in an answer


@dataclass(frozen=True)
class Question:
    """A question, what is compared to answer it, and which rows of `paired_tests` are those comparisons.

    In `compared`, `{base}` stands for the values at the reference points, `{weights}` for the λs of the first cells.
    """

    question: str
    compared: str
    is_about: Callable[[DataFrame], "Series[bool]"]


def _are_within(tests: DataFrame, setting: str) -> "Series[bool]":
    """Whether a comparison is between two values of a setting, of the same row."""
    return (tests.setting == setting) & (tests["first"] == tests.second)


def _are_trends(tests: DataFrame) -> "Series[bool]":
    return tests.second == ""


def _have_little_data(tests: DataFrame) -> "Series[bool]":
    return pd.to_numeric(tests.train_examples, errors="coerce") <= LITTLE


def _are_between(tests: DataFrame, first: Sequence[str], second: str) -> "Series[bool]":
    """Whether a comparison is between one of some rows and another row, without little data."""
    return tests["first"].isin(first) & (tests.second == second) & ~_have_little_data(tests)


QUESTIONS = (
    Question(
        "Is SPT better than prefix tuning?",
        f"spt and spt_sl − prefix_tuning (P-tuning v2), {ENOUGH}",
        lambda tests: _are_between(tests, ["spt", "spt_sl"], "prefix_tuning"),
    ),
    Question(
        "Is SPT better than fine-tuning?",
        f"spt and spt_sl − fine_tuning, {ENOUGH}",
        lambda tests: _are_between(tests, ["spt", "spt_sl"], "fine_tuning"),
    ),
    Question(
        "Is P-tuning v2 better than the same prefixes without a gate?",
        "ungated − prefix_tuning: SPT's positions and dropout of keys instead of shifted positions and dropout of keys "
        f"and values, {ENOUGH}",
        lambda tests: _are_between(tests, ["ungated"], "prefix_tuning"),
    ),
    Question(
        "Does the gate help, everything else equal?",
        "spt − ungated: the same prefixes, positions and key dropout, with the gate and its score dropout and without, "
        f"{ENOUGH}",
        lambda tests: _are_between(tests, ["spt"], "ungated"),
    ),
    Question(
        "Does the selective loss help at its default weight?",
        f"spt_sl − spt, with λ = {{weights}} and 0, {ENOUGH}",
        lambda tests: _are_between(tests, ["spt_sl"], "spt"),
    ),
    Question(
        "Does the weight of the selective loss matter?",
        "each λ − {base}, within a method",
        lambda tests: _are_within(tests, "method.sl_weight"),
    ),
    Question(
        "Does the prefix length matter?",
        "the slope of the score over log2 of the length, in points per doubling, within a method; without a "
        "complete sweep of at least 3 lengths: each − the reference",
        lambda tests: _are_trends(tests) if _are_trends(tests).any() else _are_within(tests, LENGTH),
    ),
    Question(
        "Does the temperature of the gate matter?",
        "each α − {base}, within a method",
        lambda tests: _are_within(tests, "method.alpha"),
    ),
    Question(
        "Which method is better with little data?",
        f"two methods with the same number of training examples, at most {LITTLE}",
        lambda tests: _have_little_data(tests) & (tests["first"] != tests.second),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """A question, the answer in a sentence, the numbers behind it in a paragraph, and the comparisons as a table.

    Attributes:
        question, compared: see `Question`.
        answer: one sentence.
        numbers: a few sentences; empty if there is no comparison yet.
        table: the comparisons, with p corrected for those of this question; None if there are none.
    """

    question: str
    compared: str
    answer: str
    numbers: str
    table: Table | None


def verdicts(tests: Iterable[DataFrame]) -> list[Verdict]:
    """A verdict for each question that a table is about.

    A comparison counts if its cells have all runs, both tests can be made, and it is not the demo's. Of those that
    share runs, the one with most seeds counts. Holm's correction is over the comparisons of a question.

    Args:
        tests: the `paired_tests` and `trends` of each table.
    """
    frames = [own for own in tests if len(own)]
    if not frames:
        return [_verdict(question, None) for question in QUESTIONS]
    every = pd.concat(frames, ignore_index=True)
    can_be_shown = every.examples.notna() & every.seeds.map(lambda test: test.n > 1)
    every = every[every.are_done.astype(bool) & (every.model != "demo") & can_be_shown]
    return [_verdict(question, corrected(_distinct(every[question.is_about(every)]))) for question in QUESTIONS]


def _distinct(tests: DataFrame) -> DataFrame:
    """The comparisons whose runs are not all in another one."""
    runs = [frozenset(folders) for folders in tests.folders]
    is_part = Series([any(own < other for other in runs) for own in runs], tests.index, dtype=bool)
    return tests[~is_part].drop_duplicates("folders")


def _verdict(question: Question, tests: DataFrame | None) -> Verdict:
    if tests is None or not len(tests):
        compared = question.compared.format(base="the reference", weights="that of spt_sl")
        (answer,) = notes("verdict", facts=None)
        return Verdict(question.question, compared, answer, "", None)
    weights = sorted({weight for own in tests.sl_weights for weight in own})
    compared = question.compared.format(
        base=listed(tests.second_value), weights=listed(f"{weight:g}" for weight in weights)
    )
    answer, numbers = notes("verdict", facts=_facts(tests))
    return Verdict(question.question, compared, answer, numbers, paired_tests_table(tests))


def _facts(tests: DataFrame) -> dict[str, Any]:
    p = tests[["seeds_p", "examples_p"]].astype(float)
    differences = Series([test.difference for test in tests.seeds], tests.index)
    over_examples = tests.examples.map(lambda test: test.difference)
    is_shown = (p < LEVEL).all(axis=1) & (over_examples * differences > 0)
    largest = differences[is_shown].sort_values(ascending=False, key=abs, kind="stable").index[:MOST_NAMED]
    places = [name for name in ("model", "task") if tests[name].nunique() > 1]
    return {
        "count": len(tests),
        "are_trends": bool(_are_trends(tests).all()),
        "places": "; ".join(f"{listed(own)} on {model}" for model, own in tests.groupby("model", sort=False).task),
        "shown": int(is_shown.sum()),
        "largest": [_in_words(tests.loc[index], differences[index], places) for index in largest],
        "differences": (differences.min(), differences.max()),
        "detectable": (tests.detectable.min(), tests.detectable.max()),
        "constant": sum(test.p is None for test in tests.seeds),
        "seeds": sorted({test.n for test in tests.seeds}),
        "seeds_alone": int((p.seeds_p < LEVEL).sum()),
        "examples_alone": int((p.examples_p < LEVEL).sum()),
        "other_machine": int(tests.other_machine.sum()),
        "at_chance": int(tests.at_chance.sum()),
        "differ": int(tests.other_settings.map(bool).sum()),
        "other_settings": sorted(set().union(*tests.other_settings)),
        "marks": "".join(dict.fromkeys("".join(tests.marks))),
        "level": LEVEL,
    }


def _in_words(test: "Series[Any]", difference: float, places: Sequence[str]) -> str:
    """A comparison with its difference; between two rows the better one is named first."""
    setting = re.sub(r"^(method|task)\.", "", test.setting)
    ahead, behind, points = test["first"], test.second, number(abs(difference))
    where = [test[name] for name in places]
    if not behind:
        words = f"{ahead} {'gains' if difference > 0 else 'loses'} {points} points per doubling of {setting}"
        where += [test.value]
    elif ahead == behind:
        words = f"{ahead} with {setting} {test.value} is {points} points {'above' if difference > 0 else 'below'} "
        words += f"{setting} {test.second_value}"
    else:
        ahead, behind = (ahead, behind) if difference > 0 else (behind, ahead)
        words = f"{ahead} is {points} points above {behind}"
        where += [f"{setting} {test.value}"] if setting else []
    return words + (f" ({', '.join(where)})" if where else "")
