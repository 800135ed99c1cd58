"""The tables in docs/encoders.md are those that their script makes of the committed measurements."""

import json

import pytest

from scripts import make_family_table as script
from tests.families import FAMILIES


@pytest.fixture
def measured():
    return json.loads(script.MEASURED.read_text())


@pytest.fixture
def elsewhere():
    return json.loads(script.ELSEWHERE.read_text())


def test_the_page_has_the_tables_of_the_script(measured, elsewhere):
    page = script.PAGE.read_text()
    assert script.with_tables(page, script.tables(measured, elsewhere)) == page


def test_every_family_was_measured_and_nothing_fails(measured, elsewhere):
    assert measured["git"]["dirty"] is False
    assert list(measured["results"]) == list(FAMILIES)
    assert all(library["results"].keys() == FAMILIES.keys() for library in elsewhere)
    for entries in measured["results"].values():
        assert entries.keys() == script.COLUMNS.keys()
        assert "fails" not in entries.values()
        assert all(entries[head] == "works" for head in script.HEADS)


def test_a_column_needs_all_of_its_tests():
    works, padding = "test_works[token-BERT]", "test_padding_changes_nothing[token-BERT]"
    assert script.column_entry("token", "BERT", {works: "passed", padding: "passed"}) == "works"
    assert script.column_entry("token", "BERT", {works: "passed", padding: "failed"}) == "fails"
    with pytest.raises(KeyError):
        script.column_entry("token", "BERT", {works: "passed"})


def test_a_page_without_the_comments_is_refused():
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
    assert script.library_cell(script.library_outcome(family, "sentence"), footnotes) == cell
    assert footnotes == notes
