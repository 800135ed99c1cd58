"""The methods other than the paper's: what trains, on every family, and what is refused."""

import peft
import pytest
import torch
from hydra.utils import instantiate

import spt
from spt.explain_error import explain
from spt.methods import bitfit
from spt.modeling.freeze_parameters import parameter_groups
from spt.modeling.lora import is_lora, remove_lora
from tests.conftest import batch, tiny_encoder
from tests.families import FAMILIES, family
from tests.test_configs import composed


def lora(model, **settings):
    options = [
        f"+method.{name}={value}" if name == "name" else f"method.{name}={value}" for name, value in settings.items()
    ]
    instantiate(composed("method=lora", *options).method, model, _convert_="all")
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_lora_acts_on_queries_and_values_of_every_family(name):
    encoder = family(name).eval()
    own = encoder(**batch()).last_hidden_state
    model = lora(spt.TaskModel(encoder, "sentence", num_labels=2, pooling=FAMILIES[name][1])).eval()
    assert torch.equal(encoder(**batch()).last_hidden_state, own)  # B is 0 at the start
    model(**batch(), labels=torch.tensor([0, 1, 1])).loss.backward()
    products = {n: p for n, p in model.named_parameters() if is_lora(n) and "lora_B" in n}
    assert products and all(p.grad.abs().sum() > 0 for p in products.values())
    assert parameter_groups(model)["backbone"] == 0
    for product in products.values():
        product.data.normal_()
    assert not torch.allclose(encoder(**batch()).last_hidden_state, own, atol=1e-3)
    remove_lora(encoder)
    assert torch.equal(encoder(**batch()).last_hidden_state, own)


def test_lora_computes_what_peft_does():
    model = lora(spt.TaskModel(tiny_encoder(), "sentence", num_labels=2)).eval()
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
    expected = peft.get_peft_model(tiny_encoder(), config).eval()
    weights = dict(expected.named_parameters())
    for name, parameter in model.encoder.named_parameters():
        if is_lora(name):
            parameter.data.normal_()
            weights[f"base_model.model.{name}"].data.copy_(parameter)
    torch.testing.assert_close(model.encoder(**batch()).last_hidden_state, expected(**batch()).last_hidden_state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 0}, "r must be"),
        ({"lora_alpha": -1}, "lora_alpha must be"),
        ({"lora_dropout": 1.0}, "lora_dropout is a rate"),
        ({"target_modules": "[nothing]"}, "linear modules are called dense, key, query, value"),
    ],
)
def test_invalid_lora_settings_are_named(settings, message):
    with pytest.raises(Exception) as error:
        lora(spt.TaskModel(tiny_encoder(), "sentence", num_labels=2), **settings)
    assert message in explain(error.value)


def test_bitfit_trains_the_biases():
    model = spt.TaskModel(tiny_encoder(), "sentence", num_labels=2)
    assert bitfit(model, "bitfit") is None
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if n.endswith(".bias")} | {"classifier.weight"}
    token = spt.TaskModel(tiny_encoder(), "token", num_labels=2)
    bitfit(token, "bitfit")
    assert not token.encoder.pooler.dense.bias.requires_grad


def test_bitfit_needs_biases():
    with pytest.raises(spt.SptError, match="LlamaModel has no biases"):
        bitfit(spt.TaskModel(family("Llama"), "sentence", num_labels=2, pooling="last"), "bitfit")
