"""Files with arbitrary parts are read without losing a row, or refused with their path."""

import copy
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from spt.adapters.format import read_adapter
from spt.errors import SptError
from spt.records.schema import SCHEMA, read_record
from spt.tasks.file_readers import read_conll, read_csv, read_jsonl, read_tsv
from spt.training.checkpoint import read_checkpoint
from tests.conftest import DEMO, call
from tests.records.test_schema import EARLIER

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
paths = st.lists(st.integers(0, 30), min_size=1, max_size=5)


def changed(value, path, new):
    """A copy of a nested value with `new` at `path`."""
    value = copy.deepcopy(value)
    inner = value
    for step in path:
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else []
        if not keys:
            break
        outer, key = inner, keys[step % len(keys)]
        inner = outer[key]
    outer[key] = new
    return value


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    code, _, err = call("spt.train", *DEMO, "task=demo_pair", "trainer.max_steps=1", f"output_dir={folder}")
    assert code == 0, err
    (found,) = folder.glob("*/adapter")
    return found


@given(anything)
def test_a_record_of_anything(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("record") / "record.json"
    path.write_text(json.dumps(value))
    with pytest.raises(SptError, match="record.json"):
        read_record(path)


@given(paths, anything)
def test_a_record_with_anything_in_it(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("record") / "record.json"
    path.write_text(json.dumps(changed(EARLIER, place, value)))
    try:
        record = read_record(path)
    except SptError as error:
        assert str(path) in str(error)
    else:
        assert record["schema"] == SCHEMA and isinstance(record["metrics"], dict)


@settings(max_examples=60)
@given(place=paths, value=anything)
def test_an_adapter_with_anything_in_it(adapter, tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("adapter")
    shutil.copytree(adapter, folder, dirs_exist_ok=True)
    description = json.loads((adapter / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(changed(description, place, value)))
    try:
        read = read_adapter(folder)
    except SptError as error:
        assert str(folder) in str(error)
    else:
        assert read.weights.keys() == load_file(adapter / "adapter.safetensors").keys()


@given(st.binary(max_size=100))
def test_a_checkpoint_of_anything(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    path.write_bytes(content)
    with pytest.raises(SptError, match="checkpoint.safetensors is damaged"):
        read_checkpoint(path, "abc")


word = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=6)
line = st.one_of(
    st.just(""),
    st.tuples(word, st.sampled_from(["O", "B-A", "I-A", "X", ""])).map(" ".join),
    st.tuples(word, word, st.sampled_from(["O", "B-A"])).map("\t".join),
    st.just("-DOCSTART- -X- O"),
)


@given(st.lists(line, max_size=12))
def test_no_word_of_a_conll_file_is_lost(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("conll") / "train.txt"
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    try:
        rows = [row for _, row in read_conll(path)]
    except SptError as error:
        assert f"{path}, line" in str(error)
        return
    there = [text for text in lines if text.strip() and not text.startswith("-DOCSTART-")]
    assert sum(len(row["tokens"]) for row in rows) == len(there)
    assert all(len(row["tokens"]) == len(row["tags"]) for row in rows)


field = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(st.lists(st.lists(field, min_size=1, max_size=3), max_size=8), st.sampled_from([",", "\t"]))
def test_no_row_of_a_table_is_lost(tmp_path_factory, rows, separator):
    kind, reader = {",": ("csv", read_csv), "\t": ("tsv", read_tsv)}[separator]
    text = "\n".join(["a" + separator + "b", *(separator.join(row) for row in rows)])
    path = tmp_path_factory.mktemp("table") / f"train.{kind}"
    path.write_text(text, encoding="utf-8", newline="\n")
    try:
        found = list(reader(path))
    except SptError as error:
        assert str(path) in str(error)
        return
    if separator == "\t":
        assert len(found) == sum(bool(text.removesuffix("\r")) for text in text.split("\n")[1:])
    assert all(row.keys() == {"a", "b"} for _, row in found)


@given(st.lists(anything | st.just({}), max_size=6))
def test_no_object_of_a_jsonl_file_is_lost(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("jsonl") / "train.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    try:
        found = [row for _, row in read_jsonl(path)]
    except SptError as error:
        assert f"{path}, line" in str(error)
        assert not all(isinstance(value, dict) for value in values)
    else:
        assert json.dumps(found) == json.dumps(values)
