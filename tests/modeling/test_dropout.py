"""The dropouts on prefixes, on the scores inside the gate and on the weights: where they act, and how often."""

import math

import pytest
import torch
import torch.nn.functional as F

import spt
from spt.modeling import cpu_kernel
from spt.modeling.prefix_parameters import prefixes
from tests.conftest import batch, tiny_encoder
from tests.modeling.test_gated_attention import attention, tensors


def test_each_example_has_its_own_prefix_dropout():
    config = spt.PrefixConfig(prefix_length=50, key_dropout=0.5, value_dropout=0.25)
    encoder = spt.attach(tiny_encoder(), config).train()
    key, value = prefixes(encoder)[0](4)
    assert key.shape == value.shape == (4, 4, 50, 8)
    assert 0.4 < (key == 0).float().mean() < 0.6 and 0.2 < (value == 0).float().mean() < 0.3
    assert not torch.equal(key[0] == 0, key[1] == 0)
    own_key, own_value = prefixes(encoder)[0].vectors()
    for dropped, own, rate in ((key, own_key, 0.5), (value, own_value, 0.25)):
        kept = own.view(50, 4, 8).transpose(0, 1) / (1 - rate)
        torch.testing.assert_close(dropped, torch.where(dropped == 0, 0.0, kept))
    encoder.eval()
    key, _ = prefixes(encoder)[0](4)
    assert (key != 0).all() and torch.equal(key[0], key[1])


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_evaluation_drops_nothing_and_draws_no_random_numbers(attn_implementation):
    """With every rate at 0.5, evaluation computes what an encoder without dropouts computes."""
    rates = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    outputs = []
    for rate, encoder_rates in ((0.5, rates), (0.0, dict.fromkeys(rates, 0.0))):
        encoder = tiny_encoder(attention=attn_implementation, **encoder_rates)
        torch.manual_seed(0)
        model = spt.TaskModel(encoder, "sentence", num_labels=2)
        spt.attach(model, spt.PrefixConfig(prefix_length=5, key_dropout=rate, value_dropout=rate, score_dropout=rate))
        state = torch.get_rng_state()
        outputs.append(model.eval()(**batch()).logits)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(model.train()(**batch()).logits, outputs[-1]) == (rate == 0)
    assert torch.equal(*outputs)


def test_score_dropout_acts_inside_the_sigmoid_only(monkeypatch):
    t = tensors(5)
    monkeypatch.setattr(F, "dropout", lambda x, p=0.5, *a, **k: x * 0 if p == 0.3 else x)
    output, _ = attention(t, score_dropout=0.3)
    # Every gate is sigmoid(0) = 1/2: the raw scores are kept, less log 2 each.
    ungated, _ = attention(t, alpha=None)
    prefix_scores = t["query"] @ t["key_prefix"].transpose(2, 3) - math.log(2)
    scores = torch.cat([prefix_scores, t["query"] @ t["key"].transpose(2, 3)], dim=-1)
    values = torch.cat([t["value_prefix"].expand(2, -1, -1, -1), t["value"]], dim=2)
    torch.testing.assert_close(output, scores.softmax(-1) @ values)
    assert not torch.allclose(output, ungated)


def test_attention_dropout_covers_all_columns():
    t = tensors(6, prefix=50, text=50, length=50)
    torch.manual_seed(0)
    _, weights = attention(t, alpha=1.0, attention_dropout=0.5)
    for columns in (weights[..., :50], weights[..., 50:]):
        assert 0.45 < (columns == 0).double().mean() < 0.55


def test_the_masks_of_cpu_attention_have_the_rate_and_the_seed():
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 1)]
    kept = cpu_kernel.keep_mask(torch.empty(3, 11, 97, 89), 0.1, generators)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    expected = 1 - round(0.1 * 2**16) / 2**16
    assert abs(kept.mean().item() - expected) < 4 * math.sqrt(0.09 / kept.numel())
    assert torch.equal(kept[0], kept[2])
    agree = (kept[0] == kept[1]).float().mean().item()  # two independent draws: 0.9² + 0.1²
    assert abs(agree - 0.82) < 0.01


def test_neighbouring_entries_of_a_mask_are_independent():
    generators = [torch.Generator().manual_seed(seed) for seed in range(10)]
    dropped = 1 - cpu_kernel.keep_mask(torch.empty(10, 100_000, dtype=torch.float64), 0.1, generators)
    for shift in range(1, 9):  # four entries come from one random number
        together = (dropped[:, shift:] * dropped[:, :-shift]).mean().item()
        assert abs(together - 0.01) < 5 * (0.0099 / 1e6) ** 0.5, shift


def test_the_masks_of_cpu_attention_follow_torchs_seed():
    t = {name: tensor.detach() for name, tensor in tensors(7, length=20, text=20).items()}
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(attention(t, attention_dropout=0.5, fused=True)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    mean = torch.stack([attention(t, attention_dropout=0.3, fused=True)[0] for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, attention(t, fused=True)[0], rtol=0, atol=0.1)
