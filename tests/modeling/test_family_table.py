"""README's tables of encoder families are what their script makes of the committed results."""

import json

import pytest

from scripts import make_family_table as script
from tests.families import FAMILIES


@pytest.fixture
def measured():
    """The results of this repository's tests."""
    return json.loads(script.OURS.read_text())


@pytest.fixture
def elsewhere():
    """The results of other libraries."""
    return json.loads(script.ELSEWHERE.read_text())


def test_the_readme_has_what_the_script_makes(measured, elsewhere):
    readme = script.README.read_text()
    assert script.with_tables(readme, script.tables(measured, elsewhere)) == readme


def test_every_family_is_there_and_nothing_fails(measured, elsewhere):
    assert measured["git"]["dirty"] is False
    assert list(measured["results"]) == list(FAMILIES)
    assert all(library["results"].keys() == FAMILIES.keys() for library in elsewhere)
    for results in measured["results"].values():
        assert results.keys() == script.COLUMNS.keys()
        assert "fails" not in results.values()
        assert all(results[head] == "works" for head in script.HEADS)


def test_a_column_needs_all_of_its_tests():
    works, padding = "test_works[token-BERT]", "test_padding_changes_nothing[token-BERT]"
    assert script.holds("token", "BERT", {works: "passed", padding: "passed"}) == "works"
    assert script.holds("token", "BERT", {works: "passed", padding: "failed"}) == "fails"
    with pytest.raises(KeyError):
        script.holds("token", "BERT", {works: "passed"})


def test_a_readme_without_the_comments_is_refused():
    with pytest.raises(SystemExit, match="families: start"):
        script.with_tables("# spt\n", "a table")


@pytest.mark.parametrize(
    ("outcome", "cell", "notes"),
    [
        ("works", "yes", []),
        ("no such head in transformers", "–", []),
        ("not in transformers itself: ValueError: no", "–", []),
        ("refused: ValueError: not supported", "refused", []),
        ("fails: KeyError: None", "no [1]", ["fails: KeyError"]),
        ("no gradient", "no [1]", ["no gradient"]),
        (
            "padding changes the output (by 0.4); works with attn_implementation='eager'",
            "eager [1]",
            ["padding changes the output; works with attn_implementation='eager'"],
        ),
    ],
)
def test_a_measured_outcome_in_a_cell(outcome, cell, notes):
    footnotes = script.Notes()
    family = {"sentence": {"forward": outcome}}
    assert script.their_cell(script.their_outcome(family, "sentence"), footnotes) == cell
    assert footnotes == notes
