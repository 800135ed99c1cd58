"""Dropout from 16 random bits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spt.modeling import dropout as module
from spt.modeling.dropout import Dropout, dropout, use_in


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (5, 7), (3, 200, 211), (64, 8192)])
def test_entries_are_dropped_or_scaled_and_so_are_gradients(shape, dtype):
    torch.manual_seed(0)
    x = torch.rand(shape, dtype=dtype).add(1).requires_grad_()
    y = dropout(x, 0.25)
    (grad,) = torch.autograd.grad(y.sum(), x)
    expected = torch.where(y == 0, 0.0, x.detach() / 0.75)
    torch.testing.assert_close(y, expected.to(dtype), rtol=1e-2 if dtype.itemsize == 2 else 1e-6, atol=0)
    torch.testing.assert_close(grad, torch.where(y == 0, 0.0, 1 / 0.75).to(dtype))


def test_the_rate_and_the_independence_of_neighbours():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(1000, 1000), 0.1) == 0).double()
    assert abs(dropped.mean().item() - 0.1) < 4 * (0.09 / 1e6) ** 0.5
    for shift in range(1, 9):  # four numbers come from one draw
        together = (dropped[:, shift:] * dropped[:, :-shift]).mean().item()
        assert abs(together - 0.01) < 5 * (0.0099 / 1e6) ** 0.5, shift


def test_blocks_differ_and_seeds_repeat(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1000)
    torch.manual_seed(3)
    first = dropout(torch.ones(4000), 0.5)
    second = dropout(torch.ones(4000), 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(torch.ones(4000), 0.5), first)
    assert not torch.equal(first, second) and not torch.equal(first[:1000], first[1000:2000])


def test_what_is_not_contiguous():
    torch.manual_seed(0)
    x = torch.rand(40, 30).add(1).t().requires_grad_()
    y = dropout(x, 0.5)
    (grad,) = torch.autograd.grad((y * torch.arange(1.0, 41)).sum(), x)
    torch.testing.assert_close(grad, torch.where(y == 0, 0.0, 2 * torch.arange(1.0, 41).expand(30, 40)))


def test_no_mask_is_kept():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        dropout(torch.rand(100, 100, requires_grad=True), 0.5).sum()
    assert not kept


def test_outside_training_nothing_is_drawn():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    x = torch.rand(5)
    torch.set_rng_state(before)
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0))
    use_in(model)
    assert all(type(part) is Dropout for part in model)
    assert model.eval()(x) is x and model[1].train()(x) is x and torch.equal(torch.get_rng_state(), before)
    assert (model.train()(torch.ones(1000)) == 0).any()


def test_under_compile_it_is_torchs(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(F, "dropout", lambda x, p: calls.append(p) or x)
    dropout(torch.ones(3), 0.25)
    assert calls == [0.25]
