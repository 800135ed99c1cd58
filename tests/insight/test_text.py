"""A text, token by token: what is computed, its tables and its page, and the command."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import spt
from spt.adapters.predictor import Predictor
from spt.console import console
from spt.insight.inspect_adapter import inspect
from spt.insight.pages import text_page
from spt.insight.text_attention import SequenceAttention, TextAttention, text_attention
from spt.insight.text_tables import text_tables
from spt.insight.text_view import LEVELS, colours, prediction_table, token_rows
from spt.modeling.prefix_parameters import prefixes
from spt.train import main as train_command
from tests.insight.test_figures import parsed

WORDS = {"tokens": ["the", "wind", "pushed", "<script>alert(1)</script>"]}
CHOICE = {"premise": "a thief came .", "choice1": "it fell .", "choice2": "the wagon was gone .", "question": "effect"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Runs of a few steps: entities with gates, pairs without them, choices with the selective loss."""
    folder = tmp_path_factory.mktemp("text")
    for task, method in (("ner", "spt"), ("pair", "prefix_tuning"), ("choice", "spt_sl")):
        few = [f"task=demo_{task}", f"method={method}", "model=demo", "method.prefix_length=4", "trainer.max_steps=2"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["spt.train", *few, f"output_dir={folder}"])
            train_command()
    return {path.parent.name.split(".")[0].removeprefix("demo_"): path.parent for path in folder.glob("*/record.json")}


@pytest.fixture
def command(called):
    """The command in this process; returns (exit code, standard output, standard error)."""
    return partial(called, "spt.inspect")


def queries_of_ones(predictor: Predictor) -> None:
    """Make every query (1, ..., 1), so that keys decide scores."""
    for name, parameter in predictor.model.encoder.named_parameters():
        if ".query." in name:
            parameter.data.fill_(float(name.endswith("bias")))


# --- what is computed


def test_shares_are_those_of_attention_and_sum_to_1(runs):
    predictor = spt.load(runs["ner"])
    found = text_attention(predictor, WORDS)
    (sequence,) = found.sequences
    layers, heads, tokens, slots = sequence.slot_weights.shape
    config = predictor.model.encoder.config
    assert (layers, heads, slots) == (config.num_hidden_layers, config.num_attention_heads, 4)
    assert tokens == len(sequence.tokens) and sequence.tokens[1:4] == ("the", "wind", "pushed")
    assert sequence.prefix_mass + sequence.text_weight == pytest.approx(1, abs=1e-6)
    assert sequence.gate.shape == sequence.slot_weights.shape and 0 < sequence.gate.min() < sequence.gate.max() < 1
    assert found.prediction == next(predictor.stream([WORDS])) and not found.truncated and sequence.name is None
    whole = inspect(predictor, [predictor.examples(WORDS)[0]])
    assert sequence.prefix_mass.mean(-1) == pytest.approx(whole.prefix_mass.values, abs=1e-6)
    assert sequence.gate.mean(2) == pytest.approx(whole.gate_mean.values, abs=1e-6)


def test_a_closed_gate_gives_no_attention_to_the_prefix(runs):
    predictor = spt.load(runs["ner"])
    queries_of_ones(predictor)
    for prefix in prefixes(predictor.model):
        prefix.key_prefix.data.fill_(-1e4)
    (sequence,) = text_attention(predictor, WORDS).sequences
    assert sequence.gate.max() == sequence.prefix_mass.max() == 0 and sequence.text_weight == pytest.approx(1)


def test_a_slot_that_gets_all_attention_is_the_strongest(runs):
    predictor = spt.load(runs["ner"])
    queries_of_ones(predictor)
    for prefix in prefixes(predictor.model):
        prefix.key_prefix.data.zero_()
        prefix.key_prefix.data[2] = 1e3
    (sequence,) = text_attention(predictor, WORDS).sequences
    assert sequence.slot_weights[..., 2] == pytest.approx(1) and sequence.text_weight == pytest.approx(0, abs=1e-6)
    for row in token_rows(sequence, [1]):
        assert (row.used[0].layer, row.used[0].slot, row.opened[0].slot) == (1, 2, 2)
        assert row.gate == pytest.approx((1 + 3 * 0.5) / 4)
    assert (sequence.slot_weights.argmax(-1) == 2).all()


def test_each_choice_is_a_sequence_without_its_padding(runs):
    predictor = spt.load(runs["choice"])
    found = text_attention(predictor, CHOICE)
    one, other = found.sequences
    assert (one.name, other.name) == ("choice 0", "choice 1") and len(one.tokens) < len(other.tokens)
    assert {"fell", "thief"} <= set(one.tokens) and "gone" in other.tokens
    for sequence in found.sequences:
        assert sequence.prefix_mass + sequence.text_weight == pytest.approx(1, abs=1e-6)
        assert sequence.slot_weights.shape[2] == len(sequence.tokens)
    page = parsed(text_page(found))
    assert "Tokens of choice 0" in page.text and found.prediction["choice"] in (0, 1)


def test_each_answer_is_a_sequence_whatever_their_order(tmp_path, called):
    text, entities = "Ann Lee of Oldtown pulled the old wagon .", ["Ann Lee of Oldtown", "wagon", "Ann Lee"]
    places = [{"start": (at := text.index(name)), "end": at + len(name)} for name in entities]
    answer = {"text": "wagon", **places[1]}
    data = {"passage": {"text": text, "entities": places}, "idx": 0}
    data["qas"] = [{"query": "she pulled the @placeholder", "idx": 0, "answers": [answer]}]
    for split in ("train", "val"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(data) + "\n")
    few = ["method=spt", "model=demo", "method.prefix_length=4", "trainer.max_steps=1", f"output_dir={tmp_path}/runs"]
    code, _, err = called("spt.train", "task=record", f"task.data_dir={tmp_path}", "task.max_length=96", *few)
    assert code == 0, err
    predictor = spt.load(next(tmp_path.glob("runs/*/adapter")))
    row = {"passage": text, "query": "she pulled the @placeholder"}
    shown = {}
    for names in (entities, entities[::-1], [f"{'Ann ' * (40 - n)}Lee" for n in range(38)] + entities):
        found = text_attention(predictor, row | {"entities": names})
        assert [sequence.name for sequence in found.sequences] == [f"answer {name}" for name in names]
        for sequence in found.sequences:
            weights = shown.setdefault(sequence.name, sequence.slot_weights)
            assert sequence.slot_weights == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize(
    ("run", "item", "message"),
    [
        ("pair", "one text", "takes a pair of texts"),
        ("choice", "a text", "takes rows, as in a data file"),
        ("pair", {"premise": "a"}, "no field 'hypothesis'"),
        ("ner", {"tokens": "a text"}, "tokens must be a list of words"),
    ],
)
def test_an_input_that_does_not_fit(run, item, message, runs):
    with pytest.raises(spt.SptError, match=message):
        text_attention(spt.load(runs[run]), item)


# --- what is shown


def made(gate: bool = True, prediction: dict | None = None) -> TextAttention:
    """Two tokens in one layer with two heads and two slots, by hand."""
    weights = np.array([[[[0.1, 0.2], [0.5, 0.0]], [[0.3, 0.0], [0.1, 0.4]]]])
    gates = np.array([[[[1.0, 0.5], [0.0, 0.5]], [[0.5, 0.0], [1.0, 1.0]]]]) if gate else None
    sequence = SequenceAttention(None, ("<b>&", "[red]"), gates, weights, 1 - weights.sum(-1))
    return TextAttention(
        "adapter", "<i>task", {"<s>": "<u>"}, (sequence,), prediction or {"value": 0.25}, truncated=True
    )


def test_the_numbers_of_tokens_by_hand():
    first, second = token_rows(made().sequences[0], [0])
    assert (first.gate, first.prefix, first.text) == pytest.approx((0.5, 0.3, 0.7))
    assert (second.gate, second.prefix, second.text) == pytest.approx((0.625, 0.5, 0.5))
    assert [each.slot for each in first.used] == [0, 1]
    assert [each.share for each in first.used] == pytest.approx([0.2, 0.1])
    assert [each.gate for each in first.used] == pytest.approx([0.75, 0.25])
    assert [each.slot for each in second.opened] == [1, 0] and [each.slot for each in second.used] == [0, 1]
    page = text_page(made())
    assert "50 <small>s0</small></td>" in page and "50 <small>s1</small></td>" in page
    assert ">25</td>" in page and ">100</td>" in page


def test_the_page_escapes_text_and_has_the_numbers():
    page = text_page(made())
    found = parsed(page)
    assert not any(tag in page for tag in ("<b>", "<i>", "<u>", "<s>")) and "<s><u>" in found.text
    assert "<b>&" in found.text and "<i>task" in found.text
    assert "was truncated" in found.text and "0:0 (20.0), 0:1 (10.0)" in found.text and "0:0 (75)" in found.text
    without = parsed(text_page(made(gate=False)))
    assert "gate" not in without.text.replace("without a gate", "") and "0:0 (20.0)" in without.text
    assert sum(tag == "details" for tag, _ in found.tags) == 1


def test_colours_have_contrast():
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for at in range(LEVELS + 1):
        low, high = sorted(map(luminance, colours(at)))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    assert len({colours(at)[0] for at in range(LEVELS + 1)}) == LEVELS + 1


def test_tables_in_the_terminal():
    with console.capture() as captured:
        for table in text_tables(made()):
            console.print(table)
    text = captured.get()
    assert "<b>&" in text and "[red]" in text and "0:0 20.0, 0:1 10.0" in text and "mean gate, %" in text
    assert re.search(r"\[red\] +50 +50", text)
    (only,) = text_tables(made(gate=False))
    assert "prefix" in str(only.title)


@pytest.mark.parametrize(
    ("prediction", "headline", "rows"),
    [
        ({"value": 3.2}, "value 3.2", []),
        (
            {"label": "yes", "probabilities": {"yes": 0.75, "no": 0.25}},
            "label yes",
            [["yes", "0.750"], ["no", "0.250"]],
        ),
        ({"choice": 1, "probabilities": [0.25, 0.75]}, "choice 1", [["0", "0.250"], ["1", "0.750"]]),
        ({"answer": "Ann", "probabilities": {"Ann": 0.5}}, "answer Ann", [["Ann", "0.500"]]),
        ({"entities": []}, "0 entities", []),
        (
            {"entities": [{"type": "LOC", "text": "Rome", "start": 3, "end": 7, "probability": None}]},
            "1 entity",
            [["LOC", "Rome", "3", "7", "-"]],
        ),
    ],
)
def test_predictions_in_words(prediction, headline, rows):
    found, columns, cells = prediction_table(prediction)
    assert (found, cells) == (headline, rows) and all(len(row) == len(columns) for row in cells)


# --- the command


def test_a_text_of_words_a_pair_and_a_row(runs, command, tmp_path):
    code, out, err = command(f"run={runs['ner']}", "text=the wind <script>alert(1)</script> [red] ${x} 'q'")
    assert code == 0, err
    page = (runs["ner"] / "insight/text.html").read_text()
    assert (
        "<script" not in page
        and "<script>alert(1)</script> [red] ${x} 'q'" in parsed(page).text
        and str(runs["ner"] / "insight/text.html") in out
    )
    assert any(line.startswith('{"entities": [') for line in out.splitlines()) and not (tmp_path / "insight").exists()
    assert not (runs["ner"] / "insight/insight.json").exists()
    for arguments in (
        ["text=the wind came", "text_pair=it fell"],
        ["text=the wind came\tit fell"],
        [f"text={json.dumps({'premise': 'the wind came', 'hypothesis': 'it fell'})}"],
    ):
        code, out, err = command(f"run={runs['pair']}", *arguments, f"output={tmp_path}/out")
        assert code == 0 and "gate" not in out and '{"label": "' in out, err
        pages = parsed((tmp_path / "out/text.html").read_text())
        assert "wind" in pages.text and "fell" in pages.text and "label" in pages.text


def test_a_text_that_is_too_long_is_truncated(runs, command, tmp_path):
    code, out, err = command(f"run={runs['ner']}", "text=" + "wind " * 300, f"output={tmp_path}")
    assert code == 0 and "truncated to the maximum length" in out, err
    assert "was truncated" in parsed((tmp_path / "text.html").read_text()).text


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ("pair", ["text=one"], "takes a pair of texts"),
        ("pair", ["text=a\tb\tc"], "text: expected a text, or two with a tab between them, found 3"),
        ("pair", ['text={"premise": "a"'], "text: not JSON"),
        ("choice", ["text=a"], "takes rows, as in a data file"),
    ],
)
def test_a_text_that_the_task_does_not_take(run, arguments, message, runs, command, tmp_path):
    code, _, err = command(f"run={runs[run]}", *arguments, f"output={tmp_path}/out")
    assert code == 1 and re.search(message, err) and err.count("error:") == 1 and not (tmp_path / "out").exists(), err
