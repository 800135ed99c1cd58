"""Models with prefixes in several threads: no call sees what another one does."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import spt
from spt.modeling.attention_probe import inspected_attention
from spt.modeling.prefix_parameters import prefixes
from tests.conftest import batch
from tests.families import FAMILIES, family


def model_of(name: str) -> spt.TaskModel:
    model = spt.TaskModel(family(name, "sdpa"), "sentence", num_labels=3, pooling=FAMILIES[name][1])
    return spt.attach(model, spt.PrefixConfig(prefix_length=5)).eval()


def each_in_a_thread(*functions) -> None:
    start = threading.Barrier(len(functions))
    with ThreadPoolExecutor(len(functions)) as pool:
        for done in [pool.submit(lambda call=call: (start.wait(), call())) for call in functions]:
            done.result()


@pytest.mark.parametrize("name", ["ALBERT", "BERT"])
def test_calls_and_inspections_of_one_model_in_threads(name):
    model, inputs = model_of(name), [batch(), batch(2, 17)]
    with torch.no_grad():
        expected = [model(**each).logits for each in inputs]

    def seen(number: int) -> list:
        layers: list = []
        with torch.no_grad(), inspected_attention(model, layers.append):
            model(**inputs[number])
        return [(layer.layer, layer.scores.tolist()) for layer in layers]

    looked = [seen(number) for number in range(2)]

    def call(number: int) -> None:
        for _ in range(20):
            with torch.no_grad():
                assert torch.equal(model(**inputs[number]).logits, expected[number])

    def look(number: int) -> None:
        for _ in range(10):
            assert seen(number) == looked[number]

    each_in_a_thread(*(lambda f=f, n=n: f(n) for f in (call, look) for n in (0, 1, 0)))


def test_what_is_seen_is_of_one_model():
    one, other, seen = model_of("BERT"), model_of("BERT"), []
    with torch.no_grad(), inspected_attention(one, seen.append):
        other(**batch())
        assert seen == []
        one(**batch())
    assert len(seen) == len(prefixes(one))


def test_prefixes_are_attached_to_several_encoders_at_once():
    encoders = [family(name) for name in ("BERT", "RoBERTa", "ALBERT", "BERT")]
    each_in_a_thread(*(lambda e=e: spt.detach(spt.attach(e, spt.PrefixConfig(3))) for e in encoders))
    each_in_a_thread(*(lambda e=e: spt.attach(e, spt.PrefixConfig(3)) for e in encoders))
    assert [len(prefixes(encoder)) for encoder in encoders] == [2, 2, 3, 2]


def test_a_copy_of_a_model_computes_the_same():
    model = model_of("ALBERT")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(**batch()).logits, model(**batch()).logits)
