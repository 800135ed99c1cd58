"""An adapter is used with the tokenizer that it was trained with, or refused."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

import spt
from spt.modeling.pretrained_encoder import load_tokenizer, tokenizer_fingerprint
from tests.adapters.made import DEMO_ENCODER, made_adapter

PAIR = ("The apple broke", "the apple was old")


@pytest.fixture
def adapter(tmp_path) -> Path:
    shutil.copytree(DEMO_ENCODER, tmp_path / "encoder")
    return made_adapter(
        tmp_path / "adapter", "task=demo_pair", "model=demo", "method=spt", f"model.name_or_path={tmp_path}/encoder"
    )


def lower_case_off(tokenizer: dict, config: dict) -> None:
    tokenizer["normalizer"]["lowercase"] = False
    config["do_lower_case"] = False


def two_words_exchanged(tokenizer: dict, config: dict) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]


def a_word_more(tokenizer: dict, config: dict) -> None:
    del tokenizer["model"]["vocab"][list(tokenizer["model"]["vocab"])[-1]]


def another_separator(tokenizer: dict, config: dict) -> None:
    config["sep_token"] = "[MASK]"


def a_token_of_its_own(tokenizer: dict, config: dict) -> None:
    word = next(word for word in tokenizer["model"]["vocab"] if word.isalpha() and len(word) > 3)
    config["additional_special_tokens"] = [word]


def cut_on_the_left(tokenizer: dict, config: dict) -> None:
    config["truncation_side"] = "left"


def no_segments(tokenizer: dict, config: dict) -> None:
    config["model_input_names"] = ["input_ids", "attention_mask"]


CHANGES = [
    *(lower_case_off, two_words_exchanged, a_word_more, another_separator, a_token_of_its_own, cut_on_the_left),
    no_segments,
]


def change(folder: Path, how) -> None:
    files = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    contents = [json.loads(file.read_text()) for file in files]
    how(*contents)
    for file, content in zip(files, contents, strict=True):
        file.write_text(json.dumps(content))


@pytest.mark.parametrize("how", CHANGES, ids=lambda how: how.__name__)
def test_a_tokenizer_that_was_changed_is_refused(how, adapter, tmp_path):
    assert len(list(spt.load(adapter).stream([PAIR]))) == 1
    change(tmp_path / "encoder", how)
    with pytest.raises(
        spt.SptError, match="another tokenizer than .*encoder' has now .* restore the tokenizer's files"
    ):
        spt.load(adapter)
    elsewhere = spt.load(adapter, base_model=str(DEMO_ENCODER))
    assert len(list(elsewhere.stream([PAIR]))) == 1


def test_a_shared_backbone_with_another_tokenizer_is_refused(adapter, tmp_path):
    other = made_adapter(tmp_path / "other", "task=demo_pair", "model=demo", "method=bitfit")
    first = spt.load(other, base_model=f"{tmp_path}/encoder")
    assert list(spt.load(adapter, share=first).stream([PAIR]))
    change(tmp_path / "encoder", lower_case_off)
    with pytest.raises(spt.SptError, match="without share"):
        spt.load(adapter, share=first)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("evaluate", []),
        ("predict", [f"text={PAIR[0]}", f"text_pair={PAIR[1]}"]),
        ("inspect", []),
        ("prune", ["keep=2"]),
    ],
)
def test_every_command_refuses_it(name, arguments, adapter, tmp_path, called):
    change(tmp_path / "encoder", lower_case_off)
    code, out, err = called(f"spt.{name}", f"run={adapter}", *arguments)
    assert code == 1 and out == "" and err.count("error:") == 1 and "was trained with another tokenizer" in err, err
    assert "Traceback" not in err and "unexpected" not in err


def test_a_run_with_another_tokenizer_does_not_resume(train, tmp_path, monkeypatch):
    from spt.training.loop import TrainingLoop

    shutil.copytree(DEMO_ENCODER, tmp_path / "encoder")
    settings = ("task=demo_pair", "model=demo", f"model.name_or_path={tmp_path}/encoder", "trainer.num_train_epochs=2")
    settings += ("task.train_examples=32", "trainer.per_device_train_batch_size=16")
    evaluate = TrainingLoop.evaluate

    def interrupted(loop, name):
        if loop.step == loop.max_steps:
            raise KeyboardInterrupt
        return evaluate(loop, name)

    for changes, message in (
        ((), "resumes after epoch 1"),
        ((lower_case_off,), "another tokenizer: the run starts anew"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "evaluate", interrupted)
            code, *_ = train(*settings, output_dir=tmp_path / message)
            assert code == 130
        for how in changes:
            change(tmp_path / "encoder", how)
        code, out, err = train(*settings, output_dir=tmp_path / message)
        assert code == 0 and message in out + err, out + err
    (saved,) = (tmp_path / message).glob("*/adapter/adapter.json")
    assert json.loads(saved.read_text())["about"]["tokenizer"] == tokenizer_fingerprint(
        load_tokenizer(f"{tmp_path}/encoder")
    )


def test_an_adapter_without_the_fingerprint_is_not_checked(adapter, tmp_path):
    description = json.loads((adapter / "adapter.json").read_text())
    del description["about"]["tokenizer"]
    (adapter / "adapter.json").write_text(json.dumps(description))
    change(tmp_path / "encoder", lower_case_off)
    assert len(list(spt.load(adapter).stream([PAIR]))) == 1


def test_the_fingerprint_is_of_token_ids_and_not_of_files_or_earlier_calls(tmp_path):
    tokenizer = load_tokenizer(str(DEMO_ENCODER))
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "b c"], truncation=True, max_length=3, padding="max_length")
    assert tokenizer_fingerprint(tokenizer) == fingerprint
    tokenizer.save_pretrained(tmp_path / "saved")  # other files, with the state of the last call
    again = load_tokenizer(str(shutil.copytree(DEMO_ENCODER, tmp_path / "saved", dirs_exist_ok=True)))
    assert tokenizer_fingerprint(again) == fingerprint
    backend: Tokenizer = again.backend_tokenizer
    backend.normalizer = normalizers.Sequence([backend.normalizer])  # the same in other words
    assert tokenizer_fingerprint(again) == fingerprint == "ea767de32d481807"  # in all versions


def test_a_tokenizer_in_python_has_a_fingerprint(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "apple", "old"]

    def made(words: list[str], **options):
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        return BertTokenizerLegacy(str(tmp_path / "vocab.txt"), **options)

    same, others = [tokenizer_fingerprint(made(words)) for _ in range(2)], made(words, do_lower_case=False)
    assert same[0] == same[1] != tokenizer_fingerprint(others)
    assert tokenizer_fingerprint(made(words[::-1])) != same[0]
