"""The measures of how alike prefix slots are, on vectors whose answers are known."""

import math

import pytest
import torch

import spt
from spt.modeling.slot_similarity import cosines, effective_rank, mean_abs_cosine, norms, slot_similarity
from tests.conftest import tiny_encoder


def test_equal_slots_are_parallel_and_have_rank_one():
    vectors = torch.randn(8, dtype=torch.float64).expand(5, 8)
    assert cosines(vectors) == pytest.approx(torch.ones(5, 5), abs=1e-7)
    assert float(mean_abs_cosine(vectors)) == pytest.approx(1, abs=1e-7)
    assert float(effective_rank(vectors)) == pytest.approx(1, abs=1e-6)


def test_orthogonal_slots_of_one_norm_have_full_rank():
    vectors = 3 * torch.eye(5, 8)
    assert float(mean_abs_cosine(vectors)) == 0
    assert float(effective_rank(vectors)) == pytest.approx(5)
    assert norms(vectors).tolist() == pytest.approx([3] * 5)


def test_the_rank_of_two_unequal_directions():
    shares = [3 / 4, 1 / 4]
    entropy = -sum(share * math.log(share) for share in shares)
    assert float(effective_rank(torch.diag(torch.tensor([3.0, 1.0])))) == pytest.approx(math.exp(entropy))


def test_opposite_slots_count_as_alike_and_the_cosine_keeps_its_sign():
    vectors = torch.tensor([[1.0, 2.0], [-2.0, -4.0]])
    assert float(cosines(vectors)[0, 1]) == pytest.approx(-1, abs=1e-7)
    assert float(mean_abs_cosine(vectors)) == pytest.approx(1, abs=1e-7)


def test_a_single_slot_and_slots_of_zeros():
    assert float(mean_abs_cosine(torch.ones(1, 4))) == 0
    assert float(effective_rank(torch.ones(1, 4))) == pytest.approx(1)
    assert float(mean_abs_cosine(torch.zeros(3, 4))) == 0 and torch.isfinite(effective_rank(torch.zeros(3, 4)))


def test_the_mean_over_layers_and_kinds_is_the_selective_loss():
    model = spt.attach(tiny_encoder("bert"), spt.PrefixConfig(prefix_length=5))
    measures = slot_similarity(model)
    layers = [value for kind in ("key", "value") for value in measures["mean_abs_cosine"][kind]]
    assert len(layers) == 4
    assert sum(layers) / 4 == pytest.approx(spt.selective_loss(model).item(), rel=1e-5)
    assert all(1 < rank < 5 for rank in measures["effective_rank"]["key"])


def test_a_model_without_prefixes_has_no_measures():
    assert slot_similarity(tiny_encoder("bert")) is None
