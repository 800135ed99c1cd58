"""Scores of the majority class and of random classes, which every classification table has."""

import pytest

from spt.tasks.baselines import baseline_scores
from tests.tasks.test_task import task


def labelled(*labels):
    return [{"label": label} for label in labels]


def test_the_majority_is_that_of_train_and_random_classes_are_right_by_chance():
    found = baseline_scores(task("demo_pair"), labelled(1, 1, 0), labelled(*[1] * 30, *[0] * 70))
    assert found == {"majority": pytest.approx(0.3), "random": 0.5}


def test_a_choice_is_random_among_its_choices():
    found = baseline_scores(task("copa"), labelled(0, 0, 1), labelled(*[0, 1] * 50))
    assert found == {"majority": 0.5, "random": 0.5}


@pytest.mark.parametrize("name", ["demo_ner", "stsb", "record"])
def test_tags_numbers_and_entities_have_none(name):
    assert baseline_scores(task(name), [], []) == {}


# The F1 of class 1, of which the majority class has none, and the accuracy among three classes.
@pytest.mark.parametrize(("name", "majority", "at_random"), [("multirc", 0.0, 0.5), ("cb", 0.5, 1 / 3)])
def test_grouped_and_averaged_metrics_are_scored_as_those_of_a_model(name, majority, at_random):
    made = task(name)
    examples = [{"label": index % 2, "question": f"{index // 4}"} for index in range(40)]
    found = baseline_scores(made, examples, examples)
    assert found == {"majority": majority, "random": pytest.approx(at_random, abs=0.02)}
