"""Names of settings, and the order of their values."""

from spt.records.comparable_settings import numbers_first, short_names


def test_numbers_are_ordered_by_value_and_before_words():
    texts = ["spt", "10.0", "1e-05", "0", "none", "0.0001", "-1"]
    assert sorted(texts, key=numbers_first) == ["-1", "0", "1e-05", "0.0001", "10.0", "none", "spt"]


def test_the_last_part_of_a_name_unless_two_have_it():
    names = ["trainer.learning_rate", "method.dropout", "model.dropout", "method.dropout"]
    assert list(short_names(names).values()) == ["learning_rate", "method.dropout", "model.dropout"]
