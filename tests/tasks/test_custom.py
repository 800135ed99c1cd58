"""task=custom: every file format and every shape, from the command line."""

import csv
import json
import re

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hydra.utils import instantiate

from spt.errors import SptError
from spt.explain_error import explain
from tests.conftest import DEMO
from tests.test_configs import composed


def task(*overrides):
    return instantiate(composed("task=custom", *overrides).task, _convert_="all")


def write(path, rows):
    """Write rows in the format of the file's suffix."""
    kind = path.suffix
    with path.open("w", encoding="utf-8", newline="") as file:
        if kind == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        elif kind == ".json":
            json.dump(rows, file)
        elif kind == ".csv":
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        elif kind == ".tsv":
            file.writelines("\t".join(map(str, line)) + "\n" for line in (rows[0], *(row.values() for row in rows)))
        else:
            for row in rows:
                file.writelines(f"{token} {tag}\n" for token, tag in zip(row["tokens"], row["tags"], strict=True))
                file.write("\n")
    return path


@pytest.fixture
def files(tmp_path):
    """A function that writes train and dev files and returns the overrides that name them."""

    def make(rows, suffix=".csv", dev=None):
        train, dev_file = write(tmp_path / f"train{suffix}", rows), write(tmp_path / f"dev{suffix}", dev or rows)
        return f"task.train={train}", f"task.validation={dev_file}"

    return make


REVIEWS = [
    {"id": "7", "label": "x", "review": 'the "old" apple, broke', "stars": "10"},
    {"id": "8", "label": "y", "review": "the child pulled", "stars": "9"},
]
PAIRS = [
    {"question": "the old apple", "passage": "the child", "score": "-1"},
    {"question": "the child", "passage": "the apple", "score": "2.5"},
]
CHOICES = [
    {"premise": "the child pulled", "choice1": "the apple", "choice2": "the child", "label": "choice2"},
    {"premise": "the apple broke", "choice1": "the old apple", "choice2": "the child", "label": "0"},
]
SENTENCES = [
    {"tokens": ["mr", "kalorba", "went"], "tags": ["O", "B-PER", "O"]},
    {"tokens": ["to", "mirimso"], "tags": ["O", "I-LOC"]},
]
SHAPES = {
    "sentence": (REVIEWS, ["task.text=[review]", "task.label=stars"], [".csv", ".tsv", ".json", ".jsonl"]),
    "regression": (
        PAIRS,
        ["task.text=[question,passage]", "task.shape=regression", "task.label=score"],
        [".csv", ".tsv", ".json", ".jsonl"],
    ),
    "choice": (
        CHOICES,
        ["task.shape=choice", "task.text=[premise]", "task.choices=[choice1,choice2]"],
        [".csv", ".tsv", ".json", ".jsonl"],
    ),
    "token": (SENTENCES, [], [".txt", ".conll", ".jsonl", ".json"]),
}
EXAMPLES = {
    "sentence": [
        {"texts": ['the "old" apple, broke'], "label": 1},
        {"texts": ["the child pulled"], "label": 0},
    ],
    "regression": [
        {"texts": ["the old apple", "the child"], "label": -1.0},
        {"texts": ["the child", "the apple"], "label": 2.5},
    ],
    "choice": [
        {"context": "the child pulled", "choices": ["the apple", "the child"], "label": 1},
        {"context": "the apple broke", "choices": ["the old apple", "the child"], "label": 0},
    ],
    "token": [SENTENCES[0], {"tokens": ["to", "mirimso"], "tags": ["O", "B-LOC"]}],
}


@pytest.mark.parametrize(
    ("shape", "suffix"), [(shape, suffix) for shape, (_, _, suffixes) in SHAPES.items() for suffix in suffixes]
)
def test_every_format_gives_the_same_examples(shape, suffix, files):
    rows, overrides, _ = SHAPES[shape]
    made = task(*overrides, *files(rows, suffix))
    assert made.task_type == shape and list(made.files) == ["train", "validation"]
    assert made.load() == {"train": EXAMPLES[shape], "validation": EXAMPLES[shape]}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_trains_from_the_command_line(shape, files, train, tmp_path):
    rows, overrides, (suffix, *_) = SHAPES[shape]
    paths = files(rows, suffix)
    test = paths[1].replace("task.validation", "task.test")
    code, out, err = train("task=custom", *DEMO, *overrides, *paths, test, "task.name=mine")
    assert code == 0 and "mine demo spt" in out and "test " in out, err
    (path,) = (tmp_path / "runs").glob("mine.demo.spt.*/record.json")
    record = json.loads(path.read_text())
    assert record["metrics"]["test"] is not None and record["config"]["task"]["train"] == paths[0].partition("=")[2]


def test_labels_are_found_in_the_training_file_in_numeric_order(files):
    text = {"review": "a", "stars": ""}
    for given, ordered in (
        (("10", "9", "-1", "2.5"), ["-1", "2.5", "9", "10"]),
        (("nan", "b", "a"), ["a", "b", "nan"]),
    ):
        rows = [text | {"stars": star} for star in given]
        assert task("task.text=[review]", "task.label=stars", *files(rows)).labels == ordered
    booleans = [text | {"stars": True}, text | {"stars": False}]
    made = task("task.text=[review]", "task.label=stars", *files(booleans, ".jsonl"))
    assert made.labels == ["false", "true"] and [e["label"] for e in made.read("train")] == [1, 0]
    assert task(*files(SENTENCES, ".txt")).labels == ["LOC", "PER"]


def test_null_is_no_class_called_none(files):
    rows = [{"review": "a", "stars": star} for star in ("None", "for", None)]
    with pytest.raises(SptError, match="line 3: field 'stars' holds no label"):
        task("task.text=[review]", "task.label=stars", *files(rows, ".jsonl")).read("train")


def test_examples_without_text_are_told(files, caplog):
    rows = [{"review": text, "stars": star} for text, star in (("a", "1"), (" ", "2"), ("", "2"))]
    assert len(task("task.text=[review]", "task.label=stars", *files(rows)).read("train")) == 3
    assert re.search(r"2 of 3 examples have an empty text, the first in .*train.csv, line 3", caplog.text)


@pytest.mark.parametrize(("labels", "is_clear"), [(("hate", "none"), False), (("1", "0"), True), (("Yes", "No"), True)])
def test_f1_needs_to_know_which_of_two_classes_is_meant(labels, is_clear, files):
    rows = [{"review": "a", "stars": label} for label in labels]
    settings = ("task.text=[review]", "task.label=stars", "task.metrics=[f1]", *files(rows))
    if is_clear:
        assert task(*settings).labels == sorted(labels)
    else:
        with pytest.raises(Exception) as error:
            task(*settings)
        assert "set task.labels=[hate,none], or the other way round" in explain(error.value)
    assert task(*settings, "task.labels=[none,hate]" if not is_clear else "task.max_length=8").metrics == ["f1"]


def test_a_label_that_is_not_in_the_training_file_is_refused(files):
    made = task(
        "task.text=[review]", "task.label=stars", *files(REVIEWS, dev=[REVIEWS[0], REVIEWS[1] | {"stars": "0"}])
    )
    message = r"dev.csv, line 3: label '0' is not a label of this task.*known: 10, 9; .*name all of them in task.labels"
    with pytest.raises(SptError, match=message):
        made.load()
    made = task(*files(SENTENCES, ".txt", dev=[{"tokens": ["a"], "tags": ["B-ORG"]}]))
    with pytest.raises(SptError, match=r"dev.txt, line 1: entity type 'ORG' .*the types of the training file"):
        made.load()


def test_a_table_of_texts_is_not_taken_for_tagged_words_in_silence(files):
    with pytest.raises(Exception) as error:
        task(*files([{"review": "not good", "label": "bad"}], ".tsv"))
    assert "for texts, task.text=[column]" in explain(error.value)


def test_the_columns_of_a_token_task_have_any_names(files):
    rows = [{"words": row["tokens"], "ner": row["tags"]} for row in SENTENCES]
    made = task("task.shape=token", "task.text=[words]", "task.label=ner", *files(rows, ".jsonl"))
    assert made.read("train") == EXAMPLES["token"]


def test_columns_of_any_names_are_found_in_conll_files(files, tmp_path):
    rows = [{"words": row["tokens"], "ner": row["tags"]} for row in SENTENCES]
    names = ("task.text=[words]", "task.label=ner", "task.shape=token")
    columns = write(tmp_path / "test.txt", SENTENCES)
    made = task(*files(rows, ".jsonl"), *names, f"task.test={columns}")
    assert made.read("test") == made.read("validation") == EXAMPLES["token"]


@pytest.mark.parametrize("tags", [{}, {"tags": None}])
def test_a_test_split_without_tags_is_left_out(tags, files, tmp_path):
    test = write(tmp_path / "test.jsonl", [{"tokens": ["a", "b"]} | tags])
    assert task(*files(SENTENCES, ".jsonl"), f"task.test={test}").read("test") == []


def test_columns_with_numbers_for_names(files):
    rows = [{"0": "the apple", "1": "x", "label": "u"}, {"0": "the child", "1": "y", "label": "v"}]
    assert task(*files(rows), "task.text=[0]", "task.label=1").labels == ["x", "y"]
    assert task(*files(rows), "task.text=[1]", "task.label=0").labels == ["the apple", "the child"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.text=[reviews]", "task.label=stars"], "train.csv, line 2: no field 'reviews': did you mean 'review'"),
        (["task.text=[review]", "task.label=star"], "train.csv, line 2: no field 'star': did you mean 'stars'"),
        (
            ["task.text=[review]", "task.label=star", "task.shape=regression"],
            "train.csv, line 2: no field 'star': did you mean 'stars'?",
        ),
        (["task.text=[review]", "task.shape=regression"], "train.csv, line 2: label 'x' is not a number"),
        (["task.text=review"], "task.text must be a valid list, as in task.text=[review]"),
        (["task.text=[a,b,c]"], "the two of a pair"),
        (["task.text=[review]", "task.shape=sentense"], "did you mean 'sentence'"),
        (["task.text=[review]", "task.shape=sentence", "task.choices=[a,b]"], "belongs to task.shape=choice"),
        (["task.text=[review]", "task.choices=[id]"], "two or more in task.choices"),
        (["task.train=null"], "task=custom needs a file in task.train"),
        (["task.train=no.csv"], "no file 'no.csv': task.train names"),
        (["task.text=[review]", "task.labels=[10]"], "at least two classes"),
        (["task.shape=token", "task.text=[a,b]"], "one column of words"),
        ([], "task.text names the column of the text"),
        (["task.shape=token"], "train.csv, line 1: expected 2 columns, token first and tag last"),
    ],
)
def test_settings_and_rows_that_do_not_fit_are_refused(overrides, message, files):
    with pytest.raises(Exception) as error:
        task(*files(REVIEWS), *overrides).load()
    assert message in explain(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a"], "tags": ["PER"]}, "line 1: 'PER' is not a tag: expected O, B-TYPE or I-TYPE"),
        ({"tokens": ["a"], "tags": "B-PER"}, "line 1: tags must be a list of tags, not 'B-PER'"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "line 1: tokens must be a list of words, not 'a b'"),
        ({"tokens": ["a", 3], "tags": ["O", "O"]}, "line 1: tokens must be a list of words"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "line 1: 1 tokens and 2 tags"),
        ({"tokens": ["a"]}, "line 1: no field 'tags': known: tokens"),
    ],
)
def test_rows_of_a_token_task_are_checked(row, message, files):
    made = ("task.labels=[PER,LOC]", "task.shape=token", *files([row], ".jsonl"))
    with pytest.raises(SptError, match=message):
        task(*made).load()


def test_a_name_that_cannot_be_a_folder_is_refused(files, train):
    code, _, err = train("task=custom", *DEMO, *files(REVIEWS), "task.text=[review]", "task.name=a/b")
    assert code == 1 and "task.name is part of a folder's name" in err


def test_evaluate_and_predict_read_files_as_the_run_did(called, train, tmp_path):
    """Columns by place, comments, a scheme; and labels that were found have no order for indices to follow."""
    columns = tmp_path / "train.conll"
    columns.write_text("# id 1\n1 mr O\n2 kalorba S-PER\n\n1 to O\n2 mirimso B-LOC\n3 rim E-LOC\n")
    options = ("task.columns={token: 1, tag: 2}", "task.comments=true", "task.scheme=bioes", "trainer.max_steps=1")
    code, out, err = train("task=custom", *DEMO, f"task.train={columns}", f"task.validation={columns}", *options)
    assert code == 0 and "(LOC, PER)" in out, err
    (folder,) = (tmp_path / "runs").iterdir()
    again = tmp_path / "again.conll"
    again.write_text(columns.read_text())
    code, out, err = called("spt.evaluate", f"run={folder}", f"file={again}")
    assert code == 0 and "2 examples" in out, out + err
    code, out, err = called("spt.predict", f"run={folder}", f"input={again}")
    assert code == 0 and len(out.splitlines()) == 2, err
    again.write_text("1 mr O\n2 kalorba U-PER\n")
    for command, name in (("evaluate", "file"), ("predict", "input")):
        code, _, err = called(f"spt.{command}", f"run={folder}", f"{name}={again}")
        assert code == 1 and "line 2, column 2: 'U-PER' is not a tag" in err, err


def test_evaluate_refuses_indices_of_labels_that_were_found(called, files, train, tmp_path):
    rows = [row | {"stars": star} for row, star in zip(REVIEWS, ("good", "bad"), strict=True)]
    arguments = (*files(rows), "task.text=[review]", "task.label=stars", "trainer.max_steps=1")
    code, _, err = train("task=custom", *DEMO, *arguments)
    assert code == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    indices = write(tmp_path / "indices.jsonl", [row | {"stars": number} for number, row in enumerate(REVIEWS)])
    code, _, err = called("spt.evaluate", f"run={folder}", f"file={indices}")
    assert code == 1 and "line 1: label 0 is not a label of this task" in err and "mixed" in err, err


@pytest.mark.parametrize("setting", ["columns={token: 0, tag: 1}", "comments=true", "scheme=io"])
def test_settings_of_token_tasks_belong_to_them(setting, files):
    with pytest.raises(Exception) as error:
        task("task.text=[review]", "task.label=stars", f"task.{setting}", *files(REVIEWS))
    assert "belongs to task.shape=token, not to sentence" in explain(error.value)


def test_columns_of_files_with_named_fields_are_refused(files):
    with pytest.raises(Exception) as error:
        task("task.comments=true", *files(SENTENCES, ".jsonl"))
    assert "task.columns and task.comments are for CoNLL columns" in explain(error.value)


@pytest.mark.parametrize(
    ("tags", "message"),
    [([-1, 1], "row 1: -1 is not a tag"), ([None, 1], "row 1: None is not a tag")],
)
def test_what_is_no_index_of_a_class_is_told(tags, message, tmp_path):
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-X"]))})
    for name in ("train", "dev"):
        Dataset.from_list([{"tokens": ["a", "b"], "tags": tags}], features).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(Exception) as error:
        task(f"task.train={tmp_path}/train.parquet", f"task.validation={tmp_path}/dev.parquet", "task.shape=token")
    assert message in explain(error.value)


def test_parquet_labels_in_bytes_are_refused(tmp_path):
    for name in ("train", "dev"):
        Dataset.from_list([{"text": "a", "label": b"x"}]).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(Exception) as error:
        task(f"task.train={tmp_path}/train.parquet", f"task.validation={tmp_path}/dev.parquet", "task.text=[text]")
    assert "label b'x' is bytes: write it as text" in explain(error.value)


@pytest.mark.parametrize("shape", SHAPES)
def test_parquet_gives_the_same_examples(shape, tmp_path):
    rows, overrides, _ = SHAPES[shape]
    path = tmp_path / "a.parquet"
    Dataset.from_list(rows).to_parquet(path)
    made = task(*overrides, f"task.train={path}", f"task.validation={path}")
    assert made.load() == {"train": EXAMPLES[shape], "validation": EXAMPLES[shape]}
