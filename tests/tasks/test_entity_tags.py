"""Schemes of tags: each converts to IOB2 exactly, and another one than expected is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt.errors import SptError
from spt.tasks.entity_tags import check_tag, from_brackets, iob2_tags, spans_to_tags


@pytest.mark.parametrize("tag", ["B_PER", "PER-B", "b-per", "o", "M-NAME"])
def test_a_prefix_written_otherwise_is_no_type(tag):
    for scheme in ("bio", "io"):
        with pytest.raises(SptError, match="is not a tag") as error:
            check_tag(tag, scheme)
        assert "scheme=io" not in str(error.value)


PREFIXES = {"bio": "BIIB", "bioes": "BIES", "bilou": "BILU", "io": "IIII"}  # of the first, inner, last and only word


def written(length, spans, scheme):
    """The tags of spans in a scheme, or in CoNLL-2012's brackets."""
    tags = ["*" if scheme == "brackets" else "O"] * length
    for span in spans:
        start, end, kind = span["start"], span["end"], span["type"]
        for word in range(start, end):
            if scheme == "brackets":
                tags[word] = (f"({kind}" if word == start else "") + (")" if word + 1 == end else "*")
                tags[word] = tags[word] if word == start or tags[word] == "*" else "*)"
            else:
                place = 3 if end - start == 1 else 0 if word == start else 2 if word + 1 == end else 1
                tags[word] = f"{PREFIXES[scheme][place]}-{kind}"
    return tags


@st.composite
def sentences(draw):
    """The length of a sentence, and the spans of its entities."""
    position, spans = 0, []
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(["PER", "x-y", "B"])), max_size=4)
    ):
        spans.append({"start": position + gap, "end": position + gap + length, "type": kind})
        position += gap + length
    return position + draw(st.integers(0, 2)), spans


@given(sentences(), st.sampled_from(["bio", "bioes", "bilou", "brackets"]))
def test_every_scheme_keeps_the_entities(sentence, scheme):
    tags = written(*sentence, scheme)
    converted = from_brackets(tags) if scheme == "brackets" else iob2_tags(tags, scheme)
    assert converted == spans_to_tags(*sentence)


@given(sentences(), st.booleans())
def test_io_keeps_entities_that_do_not_touch_others_of_their_type(sentence, with_prefix):
    length, spans = sentence
    spans = [span | {"type": f"type{number}"} for number, span in enumerate(spans)]
    tags = [tag if with_prefix else tag.removeprefix("I-") for tag in written(length, spans, "io")]
    assert iob2_tags(tags, "io") == spans_to_tags(length, spans)


@pytest.mark.parametrize(
    ("scheme", "tags", "message"),
    [
        (None, "S-PER", "'S-PER' is not a tag: expected O, B-TYPE or I-TYPE; .*BIOES: set task.scheme=bioes"),
        (None, "O L-PER", "set task.scheme=bilou"),
        (None, "PER", "set task.scheme=io"),
        (None, "B", "it has no type"),
        (None, "2", "name the tags .* in task.labels=.O,B-TYPE"),
        ("bilou", "S-PER", "expected O, B-TYPE, I-TYPE, L-TYPE or U-TYPE; .*task.scheme=bioes"),
        ("bioes", "U-PER", "task.scheme=bilou"),
        ("io", "B-PER I-PER", "expected O, TYPE or I-TYPE; .*task.scheme=bio"),
        ("io", "B", "it has no type"),
        ("bioes", "B-PER O", "word 2: 'O' after 'B-PER' makes no whole entity of BIOES"),
        ("bioes", "B-PER E-LOC", "word 2: 'E-LOC' after 'B-PER'"),
        ("bilou", "B-PER I-PER", "word 3: 'O' after 'I-PER' makes no whole entity of BILOU"),
        ("bilou", "O I-PER L-PER", "word 2: 'I-PER' after 'O'"),
    ],
)
def test_tags_that_are_not_of_the_scheme(scheme, tags, message):
    with pytest.raises(SptError, match=message):
        iob2_tags(tags.split(), scheme)


@pytest.mark.parametrize("tags", ["(PER* *", "*)", "(PER* (LOC)", "(PER) *)", "(PER* * B-PER"])
def test_brackets_that_do_not_match(tags):
    with pytest.raises(SptError, match="must open and close in turn"):
        from_brackets(tags.split())


def test_numbers_are_indices_of_names():
    names = ["O", "B-PER", "S-LOC"]
    assert iob2_tags([1, "2", 0, "B-PER"], None, ["O", "B-PER", "I-PER"]) == ["B-PER", "I-PER", "O", "B-PER"]
    assert check_tag(2, "bioes", names) == "S-LOC"
    for wrong in (3, -1, True, None, 1.0):
        with pytest.raises(SptError, match="is not a tag"):
            check_tag(wrong, "bioes", names)
