"""File readers: no row is lost silently, and each error names the file and line."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spt.errors import SptError
from spt.paths import local_path
from spt.tasks.entity_tags import spans_to_tags, to_iob2
from spt.tasks.file_readers import (
    find_file,
    read_conll,
    read_csv,
    read_json,
    read_jsonl,
    read_rows,
    read_sentences,
    read_tsv,
)


def write(tmp_path, content, name="file"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


SENTENCES = [
    (["EU", "rejects", "German", "call"], ["B-ORG", "O", "B-MISC", "O"]),
    (["Peter", "Blackburn"], ["B-PER", "I-PER"]),
]


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", ["", "\t"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("docstart", [True, False])
@pytest.mark.parametrize("columns", [2, 4])
def test_conll_in_all_its_forms(separator, newline, blank, last, docstart, columns, tmp_path):
    middle = ["NNP", "I-NP"][: columns - 2]
    lines = [separator.join(["-DOCSTART-", "-X-", "-X-", "O"][: max(columns, 2)]), blank] if docstart else []
    for tokens, tags in SENTENCES:
        lines += [separator.join([token, *middle, tag]) for token, tag in zip(tokens, tags, strict=True)] + [blank]
    if not last:
        lines.pop()
    path = write(tmp_path, newline.join(lines) + newline * last)
    rows = [(row["tokens"], row["tags"]) for _, row in read_conll(path)]
    assert rows == SENTENCES


def test_conll_gives_the_first_line_of_each_sentence(tmp_path):
    path = write(tmp_path, "\n\na O\nb O\n\n\nc O\n")
    assert [where for where, _ in read_conll(path)] == [f"{path}, line 3", f"{path}, line 7"]


def test_a_byte_order_mark_is_not_part_of_the_first_word(tmp_path):
    path = write(tmp_path, "\ufeffEU B-ORG\n")
    assert next(read_conll(path))[1]["tokens"] == ["EU"]


def test_unusual_spaces_stay_inside_words(tmp_path):
    path = write(tmp_path, "a\u00a0b\tO\nc\u2028d\tO\n")
    assert next(read_conll(path))[1]["tokens"] == ["a\u00a0b", "c\u2028d"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("EU\n", "line 1: expected 2 columns"),
        ("a O\n\nb x O\n", "line 3: expected 2 columns"),
        ("a x O\nb O\n", "line 2: expected 3 columns"),
        ("a O\nb B\n", "line 2, last column: 'B' is not a tag"),
        ("a B-\n", "line 1, last column: 'B-' is not a tag"),
        ("a S-PER\n", "line 1, last column: 'S-PER' is not a tag"),
        ("\tO\n", "line 1: expected 2 columns"),
        (b"a O\n\xff O\n", "not UTF-8"),
    ],
)
def test_malformed_conll(content, message, tmp_path):
    with pytest.raises(SptError, match=message) as error:
        list(read_conll(write(tmp_path, content)))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("iob1", "iob2"),
    [
        ("I-A I-A O I-A", "B-A I-A O B-A"),
        ("I-A B-A I-A", "B-A B-A I-A"),
        ("I-A I-B", "B-A B-B"),
        ("O O", "O O"),
        ("B-A I-A O B-B", "B-A I-A O B-B"),
        ("O I-A I-B I-B", "O B-A B-B I-B"),
    ],
)
def test_iob1_becomes_iob2(iob1, iob2):
    assert to_iob2(iob1.split()) == iob2.split()


tags = st.lists(st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"]), max_size=12)


@given(tags)
def test_iob2_conversion_keeps_the_entities(tags):
    from seqeval.metrics.sequence_labeling import get_entities

    converted = to_iob2(tags)
    assert to_iob2(converted) == converted
    assert get_entities(converted) == get_entities(tags)


def test_spans_become_tags():
    spans = [{"start": 1, "end": 3, "type": "Loc"}, {"start": 3, "end": 4, "type": "Loc"}]
    assert spans_to_tags(5, spans) == ["O", "B-Loc", "I-Loc", "B-Loc", "O"]
    for wrong in ({"start": 4, "end": 6, "type": "Loc"}, {"start": 2, "end": 2, "type": "Loc"}):
        with pytest.raises(SptError, match="outside"):
            spans_to_tags(5, [wrong])
    with pytest.raises(SptError, match="is not a span: expected start, end and type"):
        spans_to_tags(5, [{"start": 1, "type": "Loc"}])
    with pytest.raises(SptError, match="start and end of a span must be whole numbers of words, not 0.9 and 2.0"):
        spans_to_tags(5, [{"start": 0.9, "end": 2, "type": "Loc"}])
    with pytest.raises(SptError, match="overlaps"):
        spans_to_tags(5, [*spans, {"start": 2, "end": 4, "type": "Org"}])


def test_jsonl_rows_are_unchanged(tmp_path):
    rows = [{"text": "a\u2028b\rc", "target": {"span1_text": "b"}, "idx": 3}, {"text": "ü"}]
    path = write(tmp_path, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n")
    assert list(read_jsonl(path)) == [(f"{path}, line {number}", row) for number, row in enumerate(rows, start=1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 2: not JSON"),
        ("[1]\n", "line 1: expected a JSON object, found list"),
        (b'{"a": "\xff"}\n', "line 1 or soon after: not UTF-8"),
    ],
)
def test_malformed_jsonl(content, message, tmp_path):
    with pytest.raises(SptError, match=message):
        list(read_jsonl(write(tmp_path, content)))


def test_a_json_list_of_objects(tmp_path):
    rows = [{"tokens": ["a"], "entities": []}, {"tokens": ["b"]}]
    path = write(tmp_path, json.dumps(rows))
    assert list(read_json(path)) == [(f"{path}, object 1", rows[0]), (f"{path}, object 2", rows[1])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "expected a JSON list of objects, found dict"),
        ('{"a": 1}\n{"a": 2}\n', "not JSON .*line 2.*; a file with one object a line must be named .jsonl"),
        ('[{"a": 1}, 3]', "object 2: expected a JSON object, found int"),
        (b'[{"a": "\xff"}]', "line 1 or soon after: not UTF-8"),
    ],
)
def test_malformed_json(content, message, tmp_path):
    with pytest.raises(SptError, match=message):
        list(read_json(write(tmp_path, content)))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_in_tsv_all_but_tabs_and_line_ends_is_text(newline, tmp_path):
    lines = ["\ufeffQuality\t#1 String", '1\tan "open quote', "0\ta\u2028b\rc\x0bd\x85e ", "", '1\t"', "0\t"]
    path = write(tmp_path, newline.join(lines))
    assert list(read_tsv(path)) == [
        (f"{path}, line 2", {"Quality": "1", "#1 String": 'an "open quote'}),
        (f"{path}, line 3", {"Quality": "0", "#1 String": "a\u2028b\rc\x0bd\x85e "}),
        (f"{path}, line 5", {"Quality": "1", "#1 String": '"'}),
        (f"{path}, line 6", {"Quality": "0", "#1 String": ""}),
    ]


def test_tsv_without_a_header(tmp_path):
    path = write(tmp_path, "gj04\t1\t\tA text.\ngj04\t0\t*\tAnother.\n")
    rows = [row for _, row in read_tsv(path, header=["source", "label", "mark", "sentence"])]
    assert [(row["label"], row["sentence"]) for row in rows] == [("1", "A text."), ("0", "Another.")]


@pytest.mark.parametrize("leave_out_short", [False, True])
def test_a_tsv_row_with_an_extra_tab_is_refused(leave_out_short, tmp_path):
    path = write(tmp_path, "text\tlabel\ngood\tI like\tit\n")
    with pytest.raises(SptError, match="line 2: expected 2 fields, found 3, separated by tabs .quotes are text"):
        list(read_tsv(path, leave_out_short=leave_out_short))


def test_short_tsv_rows_are_refused_or_left_out_and_counted(tmp_path, caplog):
    path = write(tmp_path, "a\tb\n1\t2\n3\n4\t5\n6\n")
    with pytest.raises(SptError, match="line 3: expected 2 fields, found 1, separated by tabs"):
        list(read_tsv(path))
    assert [row for _, row in read_tsv(path, leave_out_short=True)] == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}]
    assert f"2 rows with too few fields are left out, the first in {path}, line 3" in caplog.text


def test_csv_is_quoted(tmp_path):
    path = write(tmp_path, '\ufefftext,label\r\n"a, ""b""\r\nc",1\r\n\r\nd,2')
    assert list(read_csv(path)) == [
        (f"{path}, line 2", {"text": 'a, "b"\r\nc', "label": "1"}),
        (f"{path}, line 5", {"text": "d", "label": "2"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na, b,1\n", "line 2: expected 2 fields, found 3, separated by commas .*double quotes"),
        ("text,label\na\n", "line 2: expected 2 fields, found 1, separated by commas"),
        ('text,label\na,1\n"b,2\n', "line 3: not CSV .*: is a quote left open"),
        ('text,label\n"a" b,2\n', "line 2: not CSV"),
        ("text,text\na,b\n", "line 1: two columns are called 'text'"),
        (b"text,label\n\xff,1\n", "line 1 or soon after: not UTF-8"),
    ],
)
def test_malformed_csv(content, message, tmp_path):
    with pytest.raises(SptError, match=message):
        list(read_csv(write(tmp_path, content)))


def test_the_suffix_chooses_the_reader(tmp_path):
    for name, content in (("a.jsonl", '{"a": "1"}'), ("a.JSON", '[{"a": "1"}]'), ("a.csv", "a\n1"), ("a.tsv", "a\n1")):
        assert [row for _, row in read_rows(write(tmp_path, content, name))] == [{"a": "1"}]
    with pytest.raises(SptError, match="a.xlsx: no reader .* .jsonl, .json, .parquet, .csv, .tsv"):
        list(read_rows(write(tmp_path, "", "a.xlsx")))
    sentence = {"tokens": ["a"], "tags": ["O"]}
    for name, content in (("a.jsonl", json.dumps(sentence)), ("a.tsv", "a\tO\n"), ("a.annotated", "a\tO\n")):
        assert [row for _, row in read_sentences(write(tmp_path, content, name), ("tokens", "tags"))] == [sentence]


cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
tables = st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), max_size=6)


@given(tables)
def test_csv_and_jsonl_round_trip(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("tables")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["a", "b"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    assert [row for _, row in read_csv(folder / "rows.csv")] == rows
    for ascii_only in (True, False):
        path = write(folder, "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows), "rows.jsonl")
        assert [row for _, row in read_jsonl(path)] == rows


@given(tables, st.sampled_from(["\n", "\r\n"]))
def test_tsv_round_trips(tmp_path_factory, rows, newline):
    rows = [{name: text.replace("\t", " ").replace("\n", " ") for name, text in row.items()} for row in rows]
    rows = [row | {"b": row["b"] + "."} for row in rows]  # a carriage return at the end is part of the line's end
    text = newline.join(["a\tb", *(f"{row['a']}\t{row['b']}" for row in rows)])
    assert [row for _, row in read_tsv(write(tmp_path_factory.mktemp("tsv"), text))] == rows


@given(st.binary(max_size=200))
def test_any_bytes_give_rows_or_an_error_with_the_path(tmp_path_factory, content):
    path = write(tmp_path_factory.mktemp("bytes"), content)
    for reader in (read_conll, read_jsonl, read_json, read_csv, read_tsv):
        try:
            list(reader(path))
        except SptError as error:
            assert str(path) in str(error)


def test_the_first_known_file_name_is_found(tmp_path):
    write(tmp_path, "", "dev.txt")
    assert find_file(str(tmp_path), ["valid.txt", "dev.txt"], required=True) == tmp_path / "dev.txt"
    assert find_file(str(tmp_path), ["test.txt"], required=False) is None
    with pytest.raises(SptError, match="has no train.txt or eng.train .it holds dev.txt."):
        find_file(str(tmp_path), ["train.txt", "eng.train"], required=True)
    with pytest.raises(SptError, match="no data folder"):
        find_file(str(tmp_path / "nowhere"), ["train.txt"], required=True)
    assert (local_path("pkg://spt/demo/encoder") / "config.json").is_file()
    with pytest.raises(SptError, match="is in another package than spt"):  # to look for it would import it
        local_path("pkg://this/encoder")
