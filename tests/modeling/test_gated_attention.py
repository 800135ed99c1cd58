"""The pure function: against the formula written out, and by its properties."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spt.modeling import blockwise_attention as blockwise
from spt.modeling import gated_attention as attention
from spt.modeling.blockwise_attention import Settings
from spt.modeling.gated_attention import kernel_attention, prefix_attention


def tensors(seed, batch=2, heads=4, kv_heads=None, length=5, text=5, d=3, prefix=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    kv_heads = kv_heads or heads

    def make(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    return {
        "query": make(batch, heads, length, d),
        "key": make(batch, kv_heads, text, d),
        "value": make(batch, kv_heads, text, d),
        "key_prefix": make(1, kv_heads, prefix, d),
        "value_prefix": make(1, kv_heads, prefix, d),
    }


def by_hand(t, alpha, mask, scaling):
    """The formula, one example, head and position at a time."""
    batch, heads, length, d = t["query"].shape
    group = heads // t["key"].shape[1]
    output = torch.zeros(batch, length, heads, d, dtype=torch.float64)
    for n in range(batch):
        for h in range(heads):
            keys, values = t["key"][n, h // group], t["value"][n, h // group]
            for i in range(length):
                q = t["query"][n, h, i]
                exponents, vectors = [], []
                for k, v in zip(t["key_prefix"][0, h // group], t["value_prefix"][0, h // group], strict=True):
                    s = (q @ k).item() * scaling
                    gate = 1.0 if alpha is None else 1 / (1 + math.exp(-alpha * s))
                    exponents.append(s + math.log(gate))
                    vectors.append(v)
                for j, (k, v) in enumerate(zip(keys, values, strict=True)):
                    if mask is None or mask[n, 0, 0, j]:
                        exponents.append((q @ k).item() * scaling)
                        vectors.append(v)
                top = sum(math.exp(e) for e in exponents)
                output[n, i, h] = sum(math.exp(e) / top * v for e, v in zip(exponents, vectors, strict=True))
    return output


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("alpha", [None, 0.5, 8.0])
def test_is_the_formula(alpha, kv_heads, fused):
    t = tensors(0, kv_heads=kv_heads)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    for text_mask in (None, mask):
        output, _ = prefix_attention(**t, scaling=0.7, alpha=alpha, attention_mask=text_mask, fused=fused)
        torch.testing.assert_close(output, by_hand(t, alpha, text_mask, 0.7), rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 6),
    prefix=st.integers(1, 6),
    alpha=st.none() | st.floats(0.01, 30),
    masked=st.booleans(),
    additive=st.booleans(),
)
def test_fused_is_eager_with_its_gradients(seed, length, prefix, alpha, masked, additive):
    t = tensors(seed, length=length, text=length, prefix=prefix)
    mask = None
    if masked:
        mask = torch.rand(2, 1, length, length, generator=torch.Generator().manual_seed(seed)) < 0.6
        if additive:
            mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, torch.finfo(torch.float64).min)
    results = []
    for fused in (False, True):
        output, weights = prefix_attention(**t, scaling=0.5, alpha=alpha, attention_mask=mask, fused=fused)
        gradients = torch.autograd.grad(output.square().sum(), list(t.values()))
        results.append((output, *gradients))
    for eager, fast in zip(*results, strict=True):
        torch.testing.assert_close(eager, fast, rtol=1e-9, atol=1e-10)
    assert weights is None


@given(seed=st.integers(0, 2**16), alpha=st.floats(0.01, 30))
@settings(max_examples=25)
def test_weights_are_a_distribution_and_padding_gets_none(seed, alpha):
    t = tensors(seed)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[0, ..., 2:] = False
    _, weights = prefix_attention(**t, scaling=1.0, alpha=alpha, attention_mask=mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert (weights[0, ..., 4 + 2 :] == 0).all()


@pytest.mark.parametrize("fused", [False, True])
def test_a_closed_gate_leaves_the_text_alone(fused):
    t = tensors(3)
    t["key_prefix"] = t["key_prefix"].detach() * 0 - 1000.0
    t["query"] = t["query"].detach().abs()
    output, _ = prefix_attention(**t, scaling=1.0, alpha=8.0, fused=fused)
    plain = F.scaled_dot_product_attention(t["query"], t["key"], t["value"], scale=1.0).transpose(1, 2)
    torch.testing.assert_close(output, plain)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_closed_gates_stay_finite_in_half_precision(dtype, fused):
    t = tensors(4, dtype=dtype)
    t["key_prefix"] = (t["key_prefix"].detach() * 0 - 300.0).requires_grad_()
    t["query"] = t["query"].detach().abs().requires_grad_()
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 1:] = False
    output, _ = prefix_attention(**t, scaling=1.0, alpha=16.0, attention_mask=mask, fused=fused)
    output.float().square().sum().backward()
    assert output.isfinite().all()
    for name, tensor in t.items():
        assert tensor.grad.isfinite().all(), name


def test_score_dropout_acts_inside_the_sigmoid_only(monkeypatch):
    t = tensors(5)
    monkeypatch.setattr(F, "dropout", lambda x, p=0.5, *a, **k: x * 0 if p == 0.3 else x)
    output, _ = prefix_attention(**t, scaling=1.0, alpha=8.0, score_dropout=0.3)
    # Every gate is sigmoid(0) = 1/2: the raw scores stand, less log 2 each.
    shifted, _ = prefix_attention(**t, scaling=1.0, alpha=None)
    scores = torch.cat(
        [
            t["query"] @ t["key_prefix"].transpose(2, 3) - math.log(2),
            t["query"] @ t["key"].transpose(2, 3),
        ],
        dim=-1,
    )
    values = torch.cat([t["value_prefix"].expand(2, -1, -1, -1), t["value"]], dim=2)
    torch.testing.assert_close(output, (scores.softmax(-1) @ values).transpose(1, 2))
    assert not torch.allclose(output, shifted)


def test_attention_dropout_covers_all_columns():
    t = tensors(6, prefix=50, text=50, length=50)
    torch.manual_seed(0)
    _, weights = prefix_attention(**t, scaling=1.0, alpha=1.0, attention_dropout=0.5)
    for columns in (weights[..., :50], weights[..., 50:]):
        assert 0.45 < (columns == 0).double().mean() < 0.55


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 6),
    kv_heads=st.sampled_from([1, 2, 4]),
    prefix=st.integers(1, 6),
    alpha=st.none() | st.floats(0.01, 30),
    masked=st.booleans(),
    rates=st.tuples(st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.2])),
    block=st.sampled_from([1, 40, 150, 2**18]),
)
def test_blocks_with_dropout_are_the_formula_with_its_gradients(
    seed, length, kv_heads, prefix, alpha, masked, rates, block
):
    """The same entries dropped, whatever the blocks: by the seeds that the blockwise form draws."""
    t = tensors(seed, batch=3, kv_heads=kv_heads, length=length, text=length, prefix=prefix)
    mask = torch.rand(3, 1, 1, length, generator=torch.Generator().manual_seed(seed)) < 0.6 if masked else None
    names = dict(zip(("score_dropout", "attention_dropout"), rates, strict=True))
    drawn = {}
    own = blockwise.keep_mask

    def kept(like, rate, generators):
        masks = own(like, rate, generators)
        name = "score_dropout" if like.shape[-1] == prefix else "attention_dropout"
        for generator, row in zip(generators, masks, strict=True):
            drawn.setdefault((name, generator.initial_seed()), []).append(row.clone())
        return masks

    def dropout(x, p=0.5, *a):
        if p == 0:
            return x
        name = "score_dropout" if x.shape[-1] == prefix else "attention_dropout"
        rows = [torch.cat(heads) for (of, _), heads in drawn.items() if of == name]
        return x * torch.stack(rows) / (1 - p)

    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, "BLOCK", block)
        patch.setattr(blockwise, "keep_mask", kept)
        for fused in (True, False):
            patch.setattr(F, "dropout", dropout)
            output, _ = prefix_attention(**t, scaling=0.5, alpha=alpha, attention_mask=mask, fused=fused, **names)
            patch.setattr(blockwise, "keep_mask", own)
            results.append((output, *torch.autograd.grad(output.square().sum(), list(t.values()))))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-10)


def test_blockwise_dropout_rates_and_seeds():
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 1)]
    kept = blockwise.keep_mask(torch.empty(3, 11, 97, 89), 0.1, generators)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    expected = 1 - round(0.1 * 2**16) / 2**16
    assert abs(kept.mean().item() - expected) < 4 * math.sqrt(0.09 / kept.numel())
    assert torch.equal(kept[0], kept[2])
    agree = (kept[0] == kept[1]).float().mean().item()  # two independent draws: 0.9² + 0.1²
    assert abs(agree - 0.82) < 0.01


def test_blockwise_dropout_follows_the_seed_of_torch():
    t = {name: tensor.detach() for name, tensor in tensors(7, length=20, text=20).items()}
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(prefix_attention(**t, scaling=1.0, alpha=8.0, attention_dropout=0.5, fused=True)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    mean = torch.stack(
        [prefix_attention(**t, scaling=1.0, alpha=8.0, attention_dropout=0.3, fused=True)[0] for _ in range(2000)]
    ).mean(0)
    whole, _ = prefix_attention(**t, scaling=1.0, alpha=8.0, fused=True)
    torch.testing.assert_close(mean, whole, rtol=0, atol=0.1)


def test_nothing_of_the_scores_size_is_kept():
    t = tensors(8, batch=4, length=64, text=64, d=8)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        output, _ = prefix_attention(**t, scaling=1.0, alpha=8.0, score_dropout=0.1, attention_dropout=0.1, fused=True)
    output.sum().backward()
    assert max(sizes) < 4 * 4 * 64 * 64


def joined(t):
    """The tensors as the kernels of accelerators take them."""
    prefix = {name: t[f"{name}_prefix"].expand(t["key"].shape[0], -1, -1, -1) for name in ("key", "value")}
    return t["query"], *(torch.cat([prefix[name], t[name]], dim=2) for name in ("key", "value"))


@pytest.mark.parametrize("alpha", [None, 8.0])
@pytest.mark.parametrize("masked", [None, "boolean", "additive"])
def test_the_way_of_accelerators_is_eager_with_its_gradients(alpha, masked):
    t = tensors(10)
    mask = None if masked is None else torch.ones(2, 1, 1, 5, dtype=torch.bool)
    if mask is not None:
        mask[1, ..., 3:] = False
    if masked == "additive":
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e30)
    output = kernel_attention(*joined(t), mask, Settings(4, 0.5, alpha, 0.0, 0.0)).transpose(1, 2)
    expected, _ = prefix_attention(**t, scaling=0.5, alpha=alpha, attention_mask=mask)
    torch.testing.assert_close(output, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((output * weights).sum(), list(t.values())),
        torch.autograd.grad((expected * weights).sum(), list(t.values())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_way_of_accelerators_draws_again_and_keeps_no_bias(monkeypatch):
    """The gradient is that of the very output, dropouts and all, and the bias is gone before the backward pass."""
    biases = []
    bias_of = attention._bias

    def watched(*arguments):
        biases.append(weakref.ref(bias := bias_of(*arguments)))
        return bias

    monkeypatch.setattr(attention, "_bias", watched)
    t = tensors(11)
    given, settings = joined(t), Settings(4, 0.5, 8.0, 0.4, 0.4)

    def call():
        torch.manual_seed(3)
        return kernel_attention(*given, None, settings)

    output = call()
    assert len(biases) == 1 and biases[0]() is None
    direction = torch.randn_like(given[0])
    torch.manual_seed(4)
    (gradient,) = torch.autograd.grad(output.sum(), given[0])
    assert len(biases) == 2
    with torch.no_grad():
        step = 1e-6 * direction
        given = (given[0] + step, *given[1:])
        above = call().sum()
        given = (given[0] - 2 * step, *given[1:])
        below = call().sum()
    torch.testing.assert_close((above - below) / 2e-6, (gradient * direction).sum(), rtol=1e-6, atol=1e-6)


def test_the_backward_pass_of_a_retained_graph_repeats_itself():
    t = tensors(9)
    output, _ = prefix_attention(**t, scaling=1.0, alpha=8.0, score_dropout=0.4, attention_dropout=0.4, fused=True)
    first, second = (torch.autograd.grad(output.sum(), list(t.values()), retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
