"""Every task of conf/task, in every format of its files, trains one step on a few rows of demo text."""

import json

import pytest

from tests.conftest import DEMO, call
from tests.tasks.test_task import task, write_splits
from tests.test_configs import options

A, B = "the old apple broke", 'the child "pulled the apple'


def jsonl(*rows, test=None):
    """SuperGLUE's files: train and val with labels, test without."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    bare = "".join(json.dumps({k: v for k, v in row.items() if k != "label"}) + "\n" for row in rows)
    return {"train.jsonl": text, "val.jsonl": text, "test.jsonl": bare if test is None else test}


def tsv(header, *rows, train="", bom=""):
    """GLUE's files; test has an index instead of a label."""
    text = "".join(line.replace("|", "\t") + "\n" for line in (bom + header, *rows))
    bare = "index\tsentence1\tsentence2\n0\ta\tb\n"
    return {"train.tsv": text + train, "dev.tsv": text, "test.tsv": bare}


def conll(train, dev, test, separator="\t"):
    """Two sentences in each file, tags of two types."""

    def text(types):
        first, second = types
        lines = ["mr O", f"kalorba B-{first}", f"mirim I-{first}", "", "to O", f"mirimso B-{second}", ""]
        return "\n".join(lines).replace(" ", separator)

    return lambda *types: {name: text(types) for name in (train, dev, test)}


def multirc(labels):
    answers = [{"text": text, "idx": i} | ({"label": i} if labels else {}) for i, text in enumerate(("apple", "child"))]
    questions = [{"question": "which?", "idx": number, "answers": answers} for number in (0, 1)]
    return json.dumps({"idx": 7, "version": 1.1, "passage": {"text": A, "questions": questions}}) + "\n"


def record(labels):
    text = f"{A}.\n@highlight\n{B}"
    entities = [
        {"start": 8, "end": 12},
        {"start": 33, "end": 37},
        {"start": text.rindex("apple"), "end": len(text) - 1},
    ]
    qas = [{"query": "@placeholder broke", "idx": 0}, {"query": "the @placeholder pulled", "idx": 1}]
    answers = [[{"start": 8, "end": 12, "text": "apple"}], [{"start": 0, "end": 4, "text": "nobody"}]]
    if labels:
        qas = [item | {"answers": found} for item, found in zip(qas, answers, strict=True)]
    return json.dumps({"idx": 3, "source": "x", "passage": {"text": text, "entities": entities}, "qas": qas}) + "\n"


PREMISES = [{"premise": A, "hypothesis": B, "idx": 0}, {"premise": B, "hypothesis": A, "idx": 1}]
PARSES = "sentence1_binary_parse|sentence2_binary_parse|sentence1_parse|sentence2_parse|sentence1|sentence2"
MNLI = f"index|promptID|pairID|genre|{PARSES}"
MNLI_ROWS = [f"{i}|1|1|x|(|(|(|(|{A}|{B}" for i in range(3)]
NLI = ("entailment", "neutral", "contradiction")
MNLI_DEV = "\n".join(
    line.replace("|", "\t")
    for line in (
        f"{MNLI}|label1|label2|label3|label4|label5|gold_label",
        *(f"{row}|neutral|neutral|neutral|neutral|neutral|{label}" for row, label in zip(MNLI_ROWS, NLI, strict=True)),
    )
)
WSC = {"text": "mr kalorba pulled it", "target": {"span1_text": "mr", "span2_text": "it", "span2_index": 3}}
COLUMNS = conll("train.txt", "dev.txt", "test.txt", " ")
SPERT = {"tokens": ["mr", "kalorba", "mirim"], "entities": [{"type": "Peop", "start": 1, "end": 3}], "relations": []}

# For each task the formats of its files, and for each format the files and what they hold.
FILES = {
    "boolq": [jsonl(*({"question": A, "passage": B, "label": label} for label in (True, False)))],
    "cb": [jsonl(PREMISES[0] | {"label": "neutral"}, PREMISES[1] | {"label": "contradiction"})],
    "copa": [jsonl({"premise": A, "choice1": A, "choice2": B, "question": "effect", "label": 1})],
    "multirc": [{"train.jsonl": multirc(True), "val.jsonl": multirc(True), "test.jsonl": multirc(False)}],
    "record": [{"train.jsonl": record(True), "val.jsonl": record(True), "test.jsonl": record(False)}],
    "rte": [
        jsonl(PREMISES[0] | {"label": "entailment"}, PREMISES[1] | {"label": "not_entailment"}),
        tsv("index|sentence1|sentence2|label", f"0|{A}|{B}|entailment", f"1|{B}|{A}|not_entailment"),
    ],
    "wic": [jsonl(*({"word": "apple", "sentence1": A, "sentence2": B, "label": label} for label in (True, False)))],
    "wsc": [jsonl(WSC | {"label": True}, WSC | {"label": False})],
    "cola": [tsv(f"gj04|1||{A}", f"gj04|0|*|{B}") | {"test.tsv": "index\tsentence\n0\ta\n"}],
    "sst2": [tsv("sentence|label", f"{A} |1", f"{B} |0")],
    "mrpc": [
        tsv("Quality|#1 ID|#2 ID|#1 String|#2 String", f"1|7|8|{A}|{B}", f"0|7|8|{B}|{A}", bom="\ufeff"),
    ],
    "qqp": [
        tsv("id|qid1|qid2|question1|question2|is_duplicate", f"0|1|2|{A}|{B}|1", f"3|4|5|{B}|{A}|0", train="6\t7\n"),
    ],
    "stsb": [
        tsv(
            "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
            f"0|x|y|2012|1|z|z|{A}|{B}|4.750", f"1|x|y|2012|1|z|z|{B}|{A}|0",
        ),
    ],
    "mnli": [
        {
            "train.tsv": "\n".join(
                line.replace("|", "\t")
                for line in (f"{MNLI}|label1|gold_label", *(f"{row}|neutral|neutral" for row in MNLI_ROWS))
            ),
            "dev_matched.tsv": MNLI_DEV,
            "dev_mismatched.tsv": MNLI_DEV,
            "test_matched.tsv": MNLI.replace("|", "\t"),
        }
    ],
    "qnli": [tsv("index|question|sentence|label", f"0|{A}|{B}|entailment", f"1|{B}|{A}|not_entailment")],
    "wnli": [tsv("index|sentence1|sentence2|label", f"0|{A}|{B}|1", f"1|{B}|{A}|0")],
    "conll03": [
        COLUMNS("PER", "LOC"),
        conll("train.txt", "valid.txt", "test.txt")("PER", "ORG"),
        conll("eng.train", "eng.testa", "eng.testb", " x y ")("PER", "MISC"),
    ],
    "conll04": [
        COLUMNS("Peop", "Loc"),
        {f"conll04_{split}.json": json.dumps([SPERT, SPERT]) for split in ("train", "dev", "test")},
    ],
    "ontonotes": [COLUMNS("PERSON", "WORK_OF_ART")],
    "wnut17": [
        conll("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated")("person", "creative-work"),
        COLUMNS("person", "location"),
    ],
    "demo_pair": [None], "demo_choice": [None], "demo_ner": [None],
}  # fmt: skip
CASES = [(name, place) for name, formats in FILES.items() for place in range(len(formats))]


@pytest.fixture
def overrides(tmp_path):
    """A function that writes the files of a format and returns the overrides with which a task reads them."""

    def make(name, place):
        files = FILES[name][place]
        if files is None:
            return [name]
        (tmp_path / "data").mkdir(exist_ok=True)
        for file, text in files.items():
            (tmp_path / "data" / file).write_text(text, encoding="utf-8")
        is_token = task(name).max_length is None
        return [name, f"task.data_dir={tmp_path / 'data'}", *([] if is_token else ["task.max_length=64"])]

    return make


def test_every_task_has_files_here():
    assert {*FILES, "custom"} == set(options("task"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), CASES)
def test_every_format_of_every_task_trains_a_step(name, place, overrides, train, tmp_path):
    name, *settings = overrides(name, place)
    code, out, err = train(f"task={name}", *DEMO, *settings, "method=spt", "trainer.max_steps=1")
    assert code == 0, err
    (path,) = (tmp_path / "runs").glob("*/record.json")
    made = json.loads(path.read_text())
    assert (made["task"], made["status"], made["steps"]) == (name, "finished", 1)
    assert made["metric"] == task(name).metrics[0] and set(made["metrics"]) == {"best_dev", "last_dev", "test"} | (
        {"validation_mismatched"} if name == "mnli" else set()
    )
    labelled = [split for split in task(name).files if split in made["data"]["splits"]]
    assert labelled[:2] == ["train", "validation"]
    scores = [made["metrics"][split] for split in labelled[2:]] + [made["metrics"]["best_dev"]]
    assert all(-1 <= score <= 1 for score in scores)
    assert ("test" in labelled) == (task(name).task_type == "token")
    assert ("left out, the first in" in out) == (name == "qqp")


@pytest.mark.parametrize(("name", "place"), [case for case in CASES if FILES[case[0]][case[1]] is not None])
def test_read_file_and_read_give_the_same_examples(name, place, overrides, tmp_path):
    made = task(*overrides(name, place))
    data = made.load()
    for split in data:
        (path,) = (tmp_path / "data" / file for file in made.files[split] if (tmp_path / "data" / file).exists())
        assert made.read_file(path) == made.read(split) == data[split]


def test_further_splits_are_printed_and_listed(overrides, train, tmp_path):
    _, *settings = overrides("mnli", 0)
    _, out, _ = train("task=mnli", *DEMO, *settings, "trainer.max_steps=1")
    assert "3 validation_mismatched" in out and "validation_mismatched 33.33 (at the best dev epoch)" in out
    train("task=demo_choice", *DEMO, "trainer.max_steps=1")
    _, out, err = call("spt.runs", f"output_dir={tmp_path / 'runs'}")
    above, below, *lines = out.splitlines()
    (line,) = (line for line in lines if line.startswith("mnli "))
    assert below[above.index("validation") :].startswith("mismatched ") and line.count("33.33") == 3
    assert any(line.startswith("demo_choice ") for line in lines), err


def test_a_file_without_labels_or_rows_is_refused(overrides, tmp_path):
    rte = task(*overrides("rte", 0))
    write_splits(tmp_path, [{"premise": A, "hypothesis": B}], ["bare.jsonl"])
    from spt.errors import SptError

    with pytest.raises(SptError, match="bare.jsonl, line 1: no field 'label'"):
        rte.read_file(tmp_path / "bare.jsonl")
    (tmp_path / "empty.tsv").write_text("sentence1\tsentence2\tlabel\n")
    with pytest.raises(SptError, match="empty.tsv has no example"):
        rte.read_file(tmp_path / "empty.tsv")
    with pytest.raises(SptError, match="rte has no split 'dev'"):
        rte.read("dev")
