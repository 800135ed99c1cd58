"""The numbers of an independent implementation (tests/reference.py), which pin the maths without the authors' files."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

import spt
from tests import reference
from tests.reference import CASES, FIXTURES, HEADS, HIDDEN, INTERMEDIATE, LABELS, LAYERS, POSITIONS, PREFIX, VOCAB

FAMILIES = {"bert": (BertConfig, BertModel, 0), "roberta": (RobertaConfig, RobertaModel, 1)}


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def build(case, fixture, attention):
    family, task_type, alpha, shift = CASES[case]
    config_class, model_class, pad = FAMILIES[family]
    config = config_class(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE,
        vocab_size=VOCAB,
        max_position_embeddings=POSITIONS,
        type_vocab_size=2 if family == "bert" else 1,
        pad_token_id=pad,
        layer_norm_eps=1e-12,
    )
    encoder = model_class._from_config(config, attn_implementation=attention).double()
    model = spt.TaskModel(encoder, task_type, LABELS)
    spt.attach(model, spt.PrefixConfig(prefix_length=PREFIX, alpha=alpha, shift_positions=shift))
    state = {n.removeprefix("state."): t for n, t in fixture.items() if n.startswith("state.")}
    state = {n if n.startswith("classifier.") else f"encoder.{n}": t for n, t in state.items()}
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_the_model_computes_what_the_reference_does(case, attention):
    fixture = load_file(FIXTURES / f"{case}.safetensors")
    model = build(case, fixture, attention)
    data = {n.removeprefix("input."): t for n, t in fixture.items() if n.startswith("input.")}
    out = model(**data)
    selective = spt.selective_loss(model)
    close(out.logits, fixture["logits"])
    close(out.loss, fixture["loss"])
    close(selective, fixture["selective_loss"])
    (out.loss + reference.SL_WEIGHT * selective).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {f"grad.{n.removeprefix('encoder.')}" for n in trained} == {n for n in fixture if n.startswith("grad.")}
    for name, parameter in trained.items():
        close(parameter.grad, fixture[f"grad.{name.removeprefix('encoder.')}"])
    for layer, weights in enumerate(model(**data, output_attentions=True).attentions):
        close(weights, fixture[f"attentions.{layer}"])


@pytest.mark.parametrize("case", CASES)
def test_the_committed_fixture_is_what_the_reference_computes(case):
    fixture, made = load_file(FIXTURES / f"{case}.safetensors"), reference.make(case)
    assert fixture.keys() == made.keys()
    for name, tensor in made.items():
        close(fixture[name], tensor)
