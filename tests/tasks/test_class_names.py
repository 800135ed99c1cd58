"""Labels as data writes them, in every format: what is one class, what is refused, what is told."""

import copy
import json
import re

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from spt.errors import SptError
from spt.tasks import custom_task
from spt.tasks.class_names import ClassName, class_index

FORMATS = [".csv", ".tsv", ".jsonl", ".json", ".parquet"]


def write(path, labels):
    """A file with a text and a label in each row; null and lists as a format without types writes them."""
    rows = [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        cells = ["" if label is None else f'"{label}"' if "," in str(label) else str(label) for label in labels]
        cells = cells if separator == "," else [cell.strip('"') for cell in cells]
        lines = [f"text{separator}label", *(f"text{separator}{cell}" for cell in cells)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def read(tmp_path):
    """The classes that a task finds, and the classes of the rows of dev."""

    def call(train, dev, labels=None, suffix=".jsonl", dev_suffix=None):
        paths = write(tmp_path / f"train{suffix}", train), write(tmp_path / f"dev{dev_suffix or suffix}", dev)
        made = custom_task("custom", *map(str, paths), text=["text"], labels=labels)
        return made.labels, [made.labels[example["label"]] for example in made.load()["validation"]]

    return call


@pytest.fixture
def refuses(read):
    def call(message, *arguments, **options):
        with pytest.raises(SptError) as error:
            read(*arguments, **options)
        assert re.search(message, str(error.value)), error.value

    return call


@pytest.mark.parametrize("suffix", FORMATS)
def test_indices_are_no_names_that_were_found(suffix, read, refuses):
    names, indices, place = ["World", "Sports"], [0, 1], "(line 2|line 1|row 1|object 1)"
    mixed = "names and numbers are mixed"
    refuses(f"dev{suffix}, {place}: label '?0'? is not a label .*{mixed}.*task.labels", names, indices, suffix=suffix)
    refuses(f"dev{suffix}, {place}: label 'World' .*{mixed}", indices, names, suffix=suffix)
    assert read(names, indices, names, suffix=suffix)[1] == names
    if suffix != ".parquet":
        refuses(f"train{suffix}, column 'label': {mixed}, 'a' in .* and '1' in .*=.1,a", ["a", 1], ["a"], suffix=suffix)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("labels", [[["a"], ["b"], ["a", "b"], []], [[1, 0], [0, 1]], [[[0, 4, "x"]], []]])
def test_lists_are_refused(suffix, labels, read, refuses):
    if suffix != ".parquet" or labels[0] != [[0, 4, "x"]]:
        message = r"(line|row|object) \d: label .* is a list: .*multi-label is not supported"
        refuses(f"train{suffix}, {message}", labels, labels, suffix=suffix)
        refuses(f"dev{suffix}, {message}", ["a", "b"], labels, suffix=suffix)
    assert read(["[a]", "b"], ["[a]"], ["[a]", "b"])[1] == ["[a]"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("missing", [None, "", " ", float("nan")])
def test_missing_labels_are_told_with_their_lines(suffix, missing, refuses):
    if missing != missing and suffix in (".csv", ".tsv"):
        missing = None
    place = {".json": "object", ".parquet": "row"}.get(suffix, "line")
    first = 3 if suffix in (".csv", ".tsv") else 2
    message = rf"{place} {first}: field 'label' holds no label \(rows without a label: 2, this is the first, {place} "
    labels = [0.5, missing, 1.5, missing] if missing != missing else ["a", missing, "b", missing]
    refuses(message + str(first + 2), labels, labels, suffix=suffix)


@pytest.mark.parametrize("suffix", FORMATS)
def test_booleans_are_their_words_and_numbers_their_value(suffix, read):
    for other in FORMATS:
        assert read([True, False], [False, True], suffix=suffix, dev_suffix=other)[1] in (
            ["False", "True"], ["false", "true"],
        )  # fmt: skip
        assert read([0.0, 1.0], [1, 0], suffix=suffix, dev_suffix=other) == (["0.0", "1.0"], ["1.0", "0.0"])
    for labels in ([False, True], ["FALSE", "True"], [0.0, 1.0], [0, 1]):
        assert read(labels, labels, [False, True], suffix=suffix)[1] == ["false", "true"]
    assert read(["True", "TRUE", "False"], ["true"], suffix=suffix) == (["False", "True"], ["True"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_names_that_may_be_slips_are_told(suffix, read, caplog):
    assert read(["Good ", "Good", "bad", "Bad", "bad", "NaN"], ["bad"], suffix=suffix)[0] == [
        "Bad",
        "Good",
        "NaN",
        "bad",
    ]
    assert re.search("label 'Good ' .1 rows, the first in .*train.* is read without the blanks", caplog.text)
    assert "are classes of their own: 'bad' (2 rows), 'Bad' (1 rows)" in caplog.text
    assert re.search("label 'NaN' .1 rows, the first in .*train.* is a class: if it means no label", caplog.text)
    caplog.clear()
    assert read(["good", "Good", "nan"], ["nan"], ["good", "Good", "nan"], suffix=suffix)[1] == ["nan"]
    assert not caplog.text


def test_names_of_class_indices_in_parquet(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    path = tmp_path / "a.parquet"
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features).to_parquet(path)
    made = custom_task("custom", str(path), str(path), text=["text"])
    assert made.labels == ["no", "yes"] and [example["label"] for example in made.read("train")] == [1, 0]

    tags = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-X", "I-X"]))})
    Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[0, 1]]}, tags).to_parquet(path)
    made = custom_task("custom", str(path), str(path))
    assert made.read("train") == [{"tokens": ["a", "b"], "tags": ["O", "B-X"]}]


def test_names_in_data_of_a_task_whose_classes_are_numbers():
    assert class_index(copy.deepcopy(ClassName("yes", 1)), ["0", "1"], False) == 1
    with pytest.raises(SptError, match="label 'pos' is not a label of this task"):
        class_index(ClassName("pos", 1), ["negative", "positive"], False)
