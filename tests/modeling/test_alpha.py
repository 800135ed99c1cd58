"""A temperature for each layer, or for each head of each layer: the plain formula, in every family."""

import pytest
import torch
import torch.nn.functional as F

import spt
from spt.errors import SptError
from spt.modeling.attention_probe import inspected_attention
from spt.modeling.prefix_parameters import attached, prefixes
from tests.conftest import DEMO, batch, tiny_encoder
from tests.families import EAGER_ONLY, FAMILIES, family


def temperatures(encoder, of_heads=True):
    """For each layer, or head of a layer, another one, exact in float32."""
    layers, heads = encoder.config.num_hidden_layers, encoder.config.num_attention_heads
    return [[0.5 + layer + head / 4 for head in range(heads)] if of_heads else 1.0 + layer for layer in range(layers)]


def model_of(name, alpha, attention="eager"):
    encoder = family(name, "eager" if name in EAGER_ONLY else attention)
    alpha = temperatures(encoder, alpha == "heads") if isinstance(alpha, str) else alpha
    torch.manual_seed(3)
    model = spt.TaskModel(encoder, "sentence", num_labels=3, pooling=FAMILIES[name][1])
    model = spt.attach(model, spt.PrefixConfig(prefix_length=5, alpha=alpha)).double().eval()
    for prefix in prefixes(model):
        for parameter in prefix.parameters():
            parameter.data.normal_()
    return model


@pytest.mark.parametrize("alpha", ["layers", "heads"])
@pytest.mark.parametrize("name", FAMILIES)
def test_each_has_its_own(name, alpha):
    model, fused, seen = model_of(name, alpha), model_of(name, alpha, "sdpa"), []
    own = model(**batch(), output_attentions=True)
    with inspected_attention(model, seen.append):
        model(**batch())
    for layer, of_layer, weights in zip(seen, attached(model).alpha, own.attentions, strict=True):
        alphas = torch.tensor(of_layer, dtype=torch.float64).view(-1, 1, 1)
        torch.testing.assert_close(layer.log_gate, F.logsigmoid(alphas * layer.scores), rtol=1e-12, atol=1e-12)
        share = torch.softmax(layer.scores + layer.log_gate, dim=-1)
        torch.testing.assert_close(share * weights[..., :5].sum(-1, keepdim=True), weights[..., :5])
    torch.testing.assert_close(fused(**batch()).logits, own.logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_equal_ones_are_one(attention):
    expected = model_of("BERT", 8.0, attention)(**batch()).logits
    for alpha in ([8.0, 8.0], [[8.0] * 4] * 2, [8.0, [8.0] * 4]):
        assert torch.equal(model_of("BERT", alpha, attention)(**batch()).logits, expected)


def test_they_are_saved_and_loaded(tmp_path):
    alpha = temperatures(tiny_encoder())
    model = spt.attach(tiny_encoder(), spt.PrefixConfig(prefix_length=3, alpha=alpha)).eval()
    spt.save_adapter(model, tmp_path)
    loaded = spt.load_adapter(tiny_encoder().eval(), tmp_path)
    assert attached(loaded).alpha == alpha
    assert torch.equal(loaded(**batch()).last_hidden_state, model(**batch()).last_hidden_state)


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        ([8.0], "alpha has 1 layers, and the encoder has 2"),
        ([8.0, [8.0]], "alpha of layer 1 has 1 heads, and the encoder has 4"),
        ([8.0, 0], "alpha must be a finite number above 0"),
        ([8.0, None], "alpha must be"),
        ([], "alpha must be"),
        ([8.0, [[8.0]]], "alpha must be"),
        ([8.0, True], "alpha must be"),
    ],
)
def test_others_are_refused(alpha, message):
    encoder = tiny_encoder()
    with pytest.raises(SptError, match=message):
        spt.attach(encoder, spt.PrefixConfig(alpha=alpha))
    assert attached(encoder) is None


def test_they_are_a_setting_of_a_run(train, called, undrawn, tmp_path):
    code, _, err = train("task=demo_pair", "method=spt_sl", "method.alpha=[2,4,8]", "trainer.max_steps=1", *DEMO)
    (run,) = tmp_path.glob("runs/demo_pair.*")
    assert code == 0 and attached(spt.load(run).model).alpha == [2, 4, 8], err
    code, _, err = called("spt.inspect", f"run={run}", "interventions=false")
    assert code == 0 and "temperature α = [2" in (run / "insight/insight.html").read_text(), err
