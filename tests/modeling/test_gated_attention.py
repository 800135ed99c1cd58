"""The equation against a version written out in loops, and the faster implementations against the equation."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spt.modeling import cpu_kernel
from spt.modeling import gated_attention as gated
from spt.modeling.gated_attention import Settings, gated_attention, join_prefix, kernel_attention
from spt.modeling.transformers_interface import fused_attention

OF_HEADS = torch.tensor([0.5, 1.0, 3.0, 8.0], dtype=torch.float64).view(-1, 1, 1)


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


def joined(t):
    """Queries, keys and values, the prefix first."""
    heads = t["query"].shape[1]
    return t["query"], *(join_prefix(t[f"{name}_prefix"], t[name], heads) for name in ("key", "value"))


def attention(
    t, mask=None, *, fused=False, scaling=1.0, alpha=8.0, score_dropout=0.0, attention_dropout=0.0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The output and, unless fused, the weights."""
    settings = Settings(t["key_prefix"].shape[2], scaling, alpha, score_dropout, attention_dropout)
    if fused:
        return fused_attention(*joined(t), mask, settings), None
    return gated_attention(*joined(t), mask, settings)


def by_hand(t, alpha, mask, scaling):
    """The equation, one example, head and position at a time."""
    batch, heads, length, d = t["query"].shape
    group = heads // t["key"].shape[1]
    output = torch.zeros(batch, heads, length, d, dtype=torch.float64)
    for n in range(batch):
        for h in range(heads):
            keys, values = t["key"][n, h // group], t["value"][n, h // group]
            for i in range(length):
                q = t["query"][n, h, i]
                exponents, vectors = [], []
                for k, v in zip(t["key_prefix"][0, h // group], t["value_prefix"][0, h // group], strict=True):
                    s = (q @ k).item() * scaling
                    own = alpha[h].item() if isinstance(alpha, torch.Tensor) else alpha
                    gate = 1.0 if own is None else 1 / (1 + math.exp(-own * s))
                    exponents.append(s + math.log(gate))
                    vectors.append(v)
                for j, (k, v) in enumerate(zip(keys, values, strict=True)):
                    if mask is None or mask[n, 0, 0, j]:
                        exponents.append((q @ k).item() * scaling)
                        vectors.append(v)
                top = sum(math.exp(e) for e in exponents)
                output[n, h, i] = sum(math.exp(e) / top * v for e, v in zip(exponents, vectors, strict=True))
    return output


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("alpha", [None, 0.5, 8.0, OF_HEADS], ids=str)
def test_is_the_equation(alpha, kv_heads, fused):
    t = tensors(0, kv_heads=kv_heads)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 3:] = False
    for text_mask in (None, mask):
        output, _ = attention(t, text_mask, scaling=0.7, alpha=alpha, fused=fused)
        torch.testing.assert_close(output, by_hand(t, alpha, text_mask, 0.7), rtol=1e-12, atol=1e-12)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 6),
    prefix=st.integers(1, 6),
    alpha=st.none() | st.floats(0.01, 30) | st.just(OF_HEADS),
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
        output, _ = attention(t, mask, scaling=0.5, alpha=alpha, fused=fused)
        gradients = torch.autograd.grad(output.square().sum(), list(t.values()))
        results.append((output, *gradients))
    for eager, fast in zip(*results, strict=True):
        torch.testing.assert_close(eager, fast, rtol=1e-9, atol=1e-10)


@given(seed=st.integers(0, 2**16), alpha=st.floats(0.01, 30))
@settings(max_examples=25)
def test_weights_are_a_distribution_and_padding_gets_none(seed, alpha):
    t = tensors(seed)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[0, ..., 2:] = False
    _, weights = attention(t, mask, alpha=alpha)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert (weights[0, ..., 4 + 2 :] == 0).all()


@pytest.mark.parametrize("fused", [False, True])
def test_a_closed_gate_leaves_the_text_alone(fused):
    t = tensors(3)
    t["key_prefix"] = t["key_prefix"].detach() * 0 - 1000.0
    t["query"] = t["query"].detach().abs()
    output, _ = attention(t, fused=fused)
    plain = F.scaled_dot_product_attention(t["query"], t["key"], t["value"], scale=1.0)
    torch.testing.assert_close(output, plain)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_closed_gates_stay_finite_in_half_precision(dtype, fused):
    t = tensors(4, dtype=dtype)
    t["key_prefix"] = (t["key_prefix"].detach() * 0 - 300.0).requires_grad_()
    t["query"] = t["query"].detach().abs().requires_grad_()
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1, ..., 1:] = False
    output, _ = attention(t, mask, alpha=16.0, fused=fused)
    output.float().square().sum().backward()
    assert output.isfinite().all()
    for name, tensor in t.items():
        assert tensor.grad.isfinite().all(), name


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 6),
    kv_heads=st.sampled_from([1, 2, 4]),
    prefix=st.integers(1, 6),
    alpha=st.none() | st.floats(0.01, 30) | st.just(OF_HEADS),
    masked=st.booleans(),
    rates=st.tuples(st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.2])),
    block=st.sampled_from([1, 40, 150, 2**18]),
)
def test_blocks_with_dropout_are_the_equation_with_its_gradients(
    seed, length, kv_heads, prefix, alpha, masked, rates, block
):
    """The same entries dropped, whatever the blocks: those that cpu_attention draws."""
    t = tensors(seed, batch=3, kv_heads=kv_heads, length=length, text=length, prefix=prefix)
    mask = torch.rand(3, 1, 1, length, generator=torch.Generator().manual_seed(seed)) < 0.6 if masked else None
    names = dict(zip(("score_dropout", "attention_dropout"), rates, strict=True))
    drawn = {}
    own = cpu_kernel.keep_mask

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
        patch.setattr(cpu_kernel, "BLOCK", block)
        patch.setattr(cpu_kernel, "keep_mask", kept)
        for fused in (True, False):
            patch.setattr(F, "dropout", dropout)
            output, _ = attention(t, mask, scaling=0.5, alpha=alpha, fused=fused, **names)
            patch.setattr(cpu_kernel, "keep_mask", own)
            results.append((output, *torch.autograd.grad(output.square().sum(), list(t.values()))))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-10)


def test_nothing_of_the_scores_size_is_kept():
    t = tensors(8, batch=4, length=64, text=64, d=8)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        output, _ = attention(t, score_dropout=0.1, attention_dropout=0.1, fused=True)
    output.sum().backward()
    assert max(sizes) < 4 * 4 * 64 * 64


@pytest.mark.parametrize("alpha", [None, 8.0, OF_HEADS], ids=str)
@pytest.mark.parametrize("masked", [None, "boolean", "additive"])
def test_kernel_attention_is_the_equation_with_its_gradients(alpha, masked):
    t = tensors(10)
    mask = None if masked is None else torch.ones(2, 1, 1, 5, dtype=torch.bool)
    if mask is not None:
        mask[1, ..., 3:] = False
    if masked == "additive":
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e30)
    output = kernel_attention(*joined(t), mask, Settings(4, 0.5, alpha, 0.0, 0.0))
    expected, _ = attention(t, mask, scaling=0.5, alpha=alpha)
    torch.testing.assert_close(output, expected)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((output * weights).sum(), list(t.values())),
        torch.autograd.grad((expected * weights).sum(), list(t.values())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("is_kept", [True, False])
def test_kernel_attention_draws_dropout_again_where_it_keeps_no_bias(is_kept, monkeypatch):
    """The gradient belongs to the output, dropouts included, and a large bias is freed before the backward pass."""
    monkeypatch.setattr(gated, "KEPT_BIAS", 10**6 if is_kept else 0)
    biases = []
    bias_of = gated._bias

    def watched(*arguments):
        biases.append(weakref.ref(bias := bias_of(*arguments)))
        return bias

    monkeypatch.setattr(gated, "_bias", watched)
    t = tensors(11)
    arguments, settings = joined(t), Settings(4, 0.5, 8.0, 0.4, 0.4)

    def call():
        torch.manual_seed(3)
        return kernel_attention(*arguments, None, settings)

    output = call()
    assert len(biases) == 1 and (is_kept or biases[0]() is None)
    direction = torch.randn_like(arguments[0])
    torch.manual_seed(4)
    (gradient,) = torch.autograd.grad(output.sum(), arguments[0])
    assert len(biases) == (1 if is_kept else 2)
    with torch.no_grad():
        step = 1e-6 * direction
        arguments = (arguments[0] + step, *arguments[1:])
        above = call().sum()
        arguments = (arguments[0] - 2 * step, *arguments[1:])
        below = call().sum()
    torch.testing.assert_close((above - below) / 2e-6, (gradient * direction).sum(), rtol=1e-6, atol=1e-6)


def test_the_backward_pass_of_a_retained_graph_repeats_itself():
    t = tensors(9)
    output, _ = attention(t, score_dropout=0.4, attention_dropout=0.4, fused=True)
    first, second = (torch.autograd.grad(output.sum(), list(t.values()), retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
