"""CoNLL columns: by place, with comments, known shapes; what separates them, and what is a word."""

import json
import re

import pytest

from spt.explain_error import explain
from spt.tasks.conll_columns import shape_of
from tests.tasks.test_custom import task

GERMEVAL = "#\thttp://a.b [2009]\n1\tanna\tB-PER\tO\n2\tlives\tO\tO\n\n1\tpaul\tB-PER\tB-X\n2\tis\tO\tO\n"
CONLLU = (
    "# text = du Rome\n1-2\tdu\t_\tX\t_\t_\t0\t_\t_\t_\n1\tde\tde\tX\t_\t_\t0\t_\t_\tO\n"
    "2\tRome\tl\tX\t_\t_\t0\t_\t_\tB-L\n"
)
CONLL2012 = (
    "#begin document (a); part 000\na  0 0   anna  N (NP* - - - - (PERSON*    -\na 0 1 lee N *) - - - - *) (A*) -\n\n"
    "#end document\n"
)
PLACES = "task.columns={token: 1, tag: 2}"


@pytest.fixture
def read(tmp_path):
    """The examples of a file of words, by its text (or bytes) and overrides."""

    def call(content, *overrides, name="train.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        files = (f"task.train={path}", f"task.validation={path}", "task.shape=token")
        return [(e["tokens"], e["tags"]) for e in task(*files, *overrides).read("validation")]

    return call


@pytest.fixture
def refuses(read):
    def call(message, *arguments, **options):
        with pytest.raises(Exception) as error:
            read(*arguments, **options)
        assert re.search(message, explain(error.value)), explain(error.value)

    return call


def test_columns_are_chosen_by_place(read):
    anna, paul = (["anna", "lives"], ["B-PER", "O"]), (["paul", "is"], ["B-PER", "O"])
    assert read(GERMEVAL, PLACES, "task.comments=true") == [anna, paul]
    assert read(GERMEVAL, "task.columns={token: -3, tag: -1}", "task.comments='#\t'")[1] == (paul[0], ["B-X", "O"])
    assert read(CONLLU, "task.columns={token: 1, tag: 9}", "task.comments=true") == [(["de", "Rome"], ["O", "B-L"])]
    brackets = read(CONLL2012, "task.columns={token: 3, tag: 10}", "task.comments=true")
    assert brackets == [(["anna", "lee"], ["B-PERSON", "I-PERSON"])]
    assert read("1 O\n\n5 B-X\n") == [(["1"], ["O"]), (["5"], ["B-X"])]
    assert read("1 O\n2 B-X\n", "task.columns={token: 0, tag: 1}") == [(["1", "2"], ["O", "B-X"])]


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (GERMEVAL, [], "line 1: the first column counts the words: choose columns by place"),
        ("0 a B-X\n1 b O\n2 c O\n\n0 d O\n", [], "the first column counts the words: choose .*{token: 1, tag: 2}"),
        ("0 a B-X\n0 b O\n\n1 c O\n", [], "the first column holds numbers alone: choose .*{token: 1, tag: 2}"),
        ("word ner\na B-X\n", [], "line 1, last column: 'ner' .*delete a line with names"),
        (CONLLU, [], "line 1: this is CoNLL-U: choose columns by place, .*task.comments=true"),
        (CONLL2012, ["task.comments=true"], "line 1: this is CoNLL-2012: .*{token: 3, tag: 10}"),
        (GERMEVAL, [PLACES], "line 1: task.columns={.*needs more columns .*# are comments: task.comments=true"),
        ("# id a\tdomain=en\na _ _ B-X\n", [], "line 1, last column: 'domain=en' .*task.comments=true"),
        ("a O\n# id a x\n", [], "line 2: expected 2 columns, .*task.comments=true"),
        ("a X-Y O\n", [PLACES.replace("2", "1")], "line 1, column 1: 'X-Y' is not a tag"),
        ("a O\n", ["task.columns={token: 1}"], "task.columns.tag is missing"),
        (
            "a O\n\nb (PER*\nc (LOC)\n",
            [],
            r"line 3: '.PER\* .LOC.': brackets of entities must open",
        ),
        ("a O\n", ["task.columns=[0,1]"], "task.columns must be"),
        ("a O\n", ["task.scheme=iobes"], "task.scheme must be 'bio', 'bioes', 'bilou' or 'io', not 'iobes'"),
        ("Word,Tag\nanna,B-X\n", [], "line 1: expected 2 columns, token first and tag last, found CSV"),
        (",Word,Tag\nSentence: 1,caf\xe9,B-X\n".encode("latin-1"), [], "line 1: .*found CSV"),
        ("anna,B-X\n", [PLACES], "found CSV"),
        ("caf\xe9 O\n".encode("latin-1"), [], "not UTF-8 .*0xe9.*iconv -f WINDOWS-1252"),
        ("a O\rb B-X\r", [], "line 1: lines end in a carriage return alone"),
    ],
)
def test_other_shapes_are_named(content, overrides, message, refuses):
    refuses(message, content, *overrides)


def test_a_range_of_words_is_told_from_a_word(read):
    """A range stands in the first column, before the words that it is of, and not where words are."""
    numbers = "Ann _ _ _ _ _ _ _ _ B-X\n2-1 _ _ _ _ _ _ _ _ O\n3.5 _ _ _ _ _ _ _ _ O\n"
    assert read(numbers, "task.columns={token: 0, tag: 9}") == [(["Ann", "2-1", "3.5"], ["B-X", "O", "O"])]
    narrow = "1-2 du _ O\n1 de _ O\n2 le _ O\n2.1 x _ O\n3 Rome _ B-X\n"
    assert read(narrow, "task.columns={token: 1, tag: 3}") == [(["de", "le", "Rome"], ["O", "O", "B-X"])]


def test_an_empty_last_column_is_not_the_one_before(refuses):
    refuses("line 1, column -1: '' is not a tag", "a\tB-X\t\n", "task.columns={token: 0, tag: -1}")


def test_hash_is_a_word_unless_comments_are_asked_for(read):
    assert read("#love B-X\n# O\n") == [(["#love", "#"], ["B-X", "O"])]


def test_only_ascii_blanks_separate_columns(read):
    assert read("the   DT  O\nroad  NN  B-LOC \n") == [(["the", "road"], ["O", "B-LOC"])]
    assert read("the\tO\t\nroad\tB-LOC\t\r\n") == [(["the", "road"], ["O", "B-LOC"])]


@pytest.mark.parametrize("word", ["\u00a0", "\u3000", "\x85", "\u2028", "\u200b", "a\u00a0", "x" * 5000])
def test_a_word_is_taken_by_every_reader(word, read):
    row = json.dumps({"tokens": ["a", word], "tags": ["O", "B-X"]})
    expected = [(["a", word], ["O", "B-X"])]
    assert read(f"a\tO\n{word}\tB-X\n") == read(f"a O\n{word} B-X\n") == read(row, name="t.jsonl") == expected


@pytest.mark.parametrize("word", ["", " ", "\n\n", "\t"])
def test_a_blank_word_is_refused_by_every_reader(word, refuses):
    row = {"tokens": ["a", word], "tags": ["O", "B-X"]}
    refuses("line 1: word 2, ", json.dumps(row), name="t.jsonl")
    refuses("word 2, ", json.dumps([row]), name="t.json")
    if word in ("", " "):
        refuses("line 2: expected 2 columns", f"a\tO\n{word}\tB-X\n")
        refuses("line 1: word 2, ", f"x\ta\tO\nx\t{word}\tB-X\n", "task.columns={token: 1, tag: 2}")


@pytest.mark.parametrize(
    ("content", "overrides", "tags"),
    [
        ("a S-PER\nb B-LOC\nc E-LOC\n", ["task.scheme=bioes"], ["B-PER", "B-LOC", "I-LOC"]),
        ("a U-PER\nb B-LOC\nc L-LOC\n", ["task.scheme=bilou"], ["B-PER", "B-LOC", "I-LOC"]),
        ("a PER\nb LOC\nc LOC\n", ["task.scheme=io"], ["B-PER", "B-LOC", "I-LOC"]),
        ("a I-PER\nb I-LOC\nc I-LOC\n", ["task.scheme=bio"], ["B-PER", "B-LOC", "I-LOC"]),
        ("a 1\nb 3\nc 4\n", ["task.labels=[O,B-PER,I-PER,B-LOC,I-LOC]"], ["B-PER", "B-LOC", "I-LOC"]),
        ("a 1\nb 2\nc 2\n", ["task.labels=[O,PER,LOC]", "task.scheme=io"], ["B-PER", "B-LOC", "I-LOC"]),
    ],
)
def test_schemes_and_numbers_in_columns_and_rows(content, overrides, tags, read, tmp_path):
    rows = [line.split() for line in content.splitlines()]
    values = [int(tag) if tag.isdecimal() else tag for _, tag in rows]
    row = json.dumps({"tokens": ["a", "b", "c"], "tags": values})
    expected = [(["a", "b", "c"], tags)]
    assert read(content, *overrides) == read(row, *overrides, name="t.jsonl") == expected


def test_numbers_without_the_names_of_all_tags_are_refused(refuses):
    for overrides in ([], ["task.labels=[PER,LOC]"]):
        refuses(
            "name the tags that the numbers stand for", '{"tokens": ["a"], "tags": [1]}', *overrides, name="a.jsonl"
        )


def test_quotes_in_columns_are_text_unless_asked(read, caplog):
    text = 'a\tO\n""""\tB-X\n'
    assert read(text) == [(["a", '""""'], ["O", "B-X"])] and "task.quoting=csv" in caplog.text
    caplog.clear()
    assert read(text, "task.quoting=csv") == [(["a", '"'], ["O", "B-X"])] and not caplog.text


def test_entity_types_that_look_alike_are_told(read, caplog):
    read("a Per\nb PER\n", "task.scheme=io")
    assert "'Per' (1 rows), 'PER' (1 rows)" in caplog.text
    caplog.clear()
    read('{"tokens": ["a", "b"], "tags": ["B-Per", "B-PER "]}', name="a.jsonl")
    assert "'Per' (1 rows), 'PER' (1 rows)" in caplog.text and "'PER ' (1 rows, the first in" in caplog.text


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("Ann B-PER\nsaw O\n\nRome B-LOC\n", "columns"),
        ("Ann B-PER\nsaw O\n", "columns"),
        ("Ann B_PER\nsaw O\n\nRome B-LOC\n", "columns"),  # to be told what is wrong with it
        ("Ann B-PER\nsaw the O\nRome B-LOC\n", "columns"),
        ("Ann\tx\tPER\n", "columns"),
        ("Ann NNP *\nSmith NNP (PER)\n", "columns"),
        ("-DOCSTART-\n\nAnn\nsaw\n\nRome\n", "words"),
        ("Rome\n", "words"),
        ("", "words"),
        ("Ann saw Rome .\nRome slept .\n", "texts"),
        ("Ann saw Rome .\n", "texts"),
        ("Ann saw Rome .\n\nRome slept .\n", "texts"),
    ],
)
def test_the_shape_of_lines(text, shape, tmp_path):
    (tmp_path / "lines.txt").write_text(text)
    assert shape_of(tmp_path / "lines.txt") == shape


@pytest.mark.parametrize(
    ("text", "without", "shape"),
    [
        (CONLL2012, "texts", "columns"),  # whose last column is no tag
        ("# a comment\nAnn\nsaw\n\nRome\n", "texts", "words"),
        ("# a comment\nAnn saw Rome.\nBea sat.\n", "texts", "texts"),
    ],
)
def test_the_settings_help_to_tell_columns_from_texts(text, without, shape, tmp_path):
    (tmp_path / "test.txt").write_text(text)
    assert shape_of(tmp_path / "test.txt") == without
    assert shape_of(tmp_path / "test.txt", {"token": 3, "tag": 10}, comments=True) == shape
