"""The cache of tokenised splits."""

import datasets
import pytest

from spt.errors import SptError
from spt.modeling.pretrained_encoder import load_tokenizer
from spt.tasks.task import CHUNK
from spt.tasks.text_classification import SentenceTask
from spt.tasks.token_classification import TokenTask
from spt.tasks.tokenized_cache import encoded


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def task_of(kind, **settings):
    if kind == "token":
        return TokenTask(name="t", labels=["LOC"], metrics=["f1"], files={}, **settings)
    return SentenceTask(name="t", labels=["no", "yes"], metrics=["accuracy"], templates=[["{a}"]], files={}, **settings)


def examples_of(kind, count):
    words = ["miri", "so", "tala", "vu", "\u200b"]
    texts = [[words[(i * k) % 5] for k in range(1, 3 + i % 9)] for i in range(count)]
    if kind == "token":
        return [{"tokens": text, "tags": ["O"] * len(text)} for text in texts]
    return [{"texts": [" ".join(text)], "label": len(text) % 2} for text in texts]


@pytest.mark.parametrize("kind", ["sentence", "token"])
def test_a_split_is_tokenised_once(kind, cache, monkeypatch):
    tokenizer = load_tokenizer("pkg://spt/demo/encoder", split_into_words=kind == "token")
    task, examples = task_of(kind, max_length=8), examples_of(kind, CHUNK + 3)
    plain = task.encode(examples, tokenizer, 64)
    first = encoded(task, examples, tokenizer, 64)

    def refuse(*_):
        raise AssertionError("tokenised again")

    tokenized = type(task)._tokenized
    monkeypatch.setattr(
        type(task), "_tokenized", lambda self, some, *rest: tokenized(self, some, *rest) if len(some) == 1 else refuse()
    )
    second = encoded(task, [dict(example) for example in examples], tokenizer, 64)
    for split in (first, second):
        assert split.inputs.features == plain.inputs.features
        assert split.inputs.to_dict() == plain.inputs.to_dict()
        assert (split.truncated, split.lost_words) == (plain.truncated, plain.lost_words)
    assert plain.truncated > 0 and (plain.lost_words > 0) == (kind == "token")
    for other_task, other_examples, limit in (
        (task_of(kind, max_length=9), examples, 64),
        (task, [*examples[:-1], examples[0]], 64),
        (task_of(kind), examples, 63),
    ):
        with pytest.raises(AssertionError, match="tokenised again"):
            encoded(other_task, other_examples, tokenizer, limit)


def test_a_small_split_is_not_cached(cache):
    tokenizer = load_tokenizer("pkg://spt/demo/encoder")
    encoded(task_of("sentence"), examples_of("sentence", CHUNK), tokenizer, 64)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written(cache):
    cache.write_text("a file")
    tokenizer = load_tokenizer("pkg://spt/demo/encoder")
    with pytest.raises(SptError, match="HF_DATASETS_CACHE"):
        encoded(task_of("sentence"), examples_of("sentence", CHUNK + 1), tokenizer, 64)


def test_an_error_of_encoding_is_not_hidden_by_the_cache(cache, monkeypatch):
    tokenizer = load_tokenizer("pkg://spt/demo/encoder")
    with pytest.raises(SptError, match="no room for a text"):
        encoded(task_of("sentence"), examples_of("sentence", CHUNK + 1), tokenizer, 2)
