"""Tables and text files that other programs wrote: the message names the cause, and what to do."""

import csv
import re

import pytest

from spt.errors import SptError
from spt.tasks import custom_task
from spt.tasks.file_readers import read_json, read_rows

ROWS = [["text", "label"], ['She said "hello" to me', "good"], ["a\tb\nc", "bad"]]


@pytest.fixture
def refuses(tmp_path):
    def call(content, name, message):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(SptError) as error:
            custom_task("custom", str(path), str(path), text=["review"]).load()
        assert re.search(rf"{name}.*{message}", str(error.value)), error.value

    return call


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("review;label\nok, fine;good\n", "a.csv", "line 1: semicolons separate the columns.*save it with commas"),
        ("review|label\nok|good\n", "a.tsv", "bars separate the columns.*save it with tabs"),
        ("review\tlabel\nok\tgood\n", "a.csv", "tabs separate the columns.*name it .tsv"),
        ("review,label\nok,good\n", "a.tsv", "commas separate the columns.*name it .csv"),
        ("review label\nok good\n", "a.csv", "no field 'label'.*if blanks separate the columns, write commas"),
        ("review, label\nok, good\n", "a.csv", "no field 'label': did you mean ' label'.*leave out the blanks"),
        ('review, label\nok, "good, x"\n', "a.csv", "not CSV|expected 2 fields"),
        ('review,label\n"a \\"hi\\" b",good\n', "a.csv", "line 2: not CSV .*doubled.*backslash"),
        ('review,label\n"a "b" c",good\n', "a.csv", "line 2: not CSV .*a quote inside not doubled"),
        ('"review"\t"label"\n"ok"\t"good"\n', "a.tsv", "line 1: .*quotes around their names.*task.quoting=csv"),
        ('review\tlabel\n"a\nb"\tgood\n', "a.tsv", "line 2: expected 2 fields, found 1.*task.quoting=csv"),
        *(
            ("".join(f"{line}\r" for line in lines), name, "line 1: lines end in a carriage return alone.*tr '.r'")
            for name, lines in (
                ("a.csv", ["review,label", "ok,good"]),
                ("a.tsv", ["review\tlabel", "ok\tgood"]),
                ("a.jsonl", ["{}", "{}"]),
            )
        ),
        *(
            (content, name, message)
            for name in ("a.csv", "a.tsv", "a.jsonl", "a.json")
            for content, message in (
                ("review".encode("utf-16"), "line 1 .*it is UTF-16: save it as UTF-8"),
                ("review".encode("utf-16-be"), "line 1: .*UTF-16"),
                ('"caf\xe9"'.encode("latin-1"), "not UTF-8 .*0xe9.*iconv -f WINDOWS-1252 -t UTF-8"),
                (b"PK\x03\x04\xff", "a .zip or .xlsx file"),
            )
        ),
        (b'"review";"label"\n"ok";"good"\n', "a.csv", "not CSV .*semicolons separate the columns: save it with"),
    ],
)  # fmt: skip
def test_the_cause_is_named(content, name, message, refuses):
    refuses(content, name, message)


def test_json_may_have_old_line_ends(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[\r{"a": 1}\r]\r')
    assert [row for _, row in read_json(path)] == [{"a": 1}]


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("text,label\n")
    with pytest.raises(SptError, match="a.parquet: not a parquet file"):
        list(read_rows(path))


def test_quotes_in_tsv_are_text_unless_asked(tmp_path, caplog):
    path = tmp_path / "a.tsv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(ROWS)
    files = {"train": str(path), "validation": str(path), "text": ["text"]}
    made = custom_task("custom", **files, quoting="csv")
    assert [example["texts"][0] for example in made.read("train")] == [text for text, _ in ROWS[1:]] and not caplog.text
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([*ROWS[:2], ["plain", "bad"], *ROWS[1:2]])
    assert custom_task("custom", **files).read("train")[0]["texts"] == ['"She said ""hello"" to me"']
    (record,) = caplog.records
    assert re.search(
        'a.tsv, line 2: the quotes of "She said .*task.quoting=csv, or save the file as .csv', record.message
    )
    caplog.clear()
    path.write_text('text\tlabel\n"a citation"\tgood\n""\tbad\n"so" and "so"\tbad\n')
    assert custom_task("custom", **files).read("train") and not caplog.text
    with pytest.raises(SptError, match="task.quoting must be 'csv', not 'excel'"):
        custom_task("custom", **files, quoting="excel")
