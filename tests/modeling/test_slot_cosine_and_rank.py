"""The similarity of slots: known answers, and the selective loss."""

import math

import pytest
import torch

import spt
from spt.modeling.prefix_parameters import prefixes
from spt.modeling.slot_cosine_and_rank import cosine, effective_rank, mean_abs_cosine, norm, slot_similarity
from tests.conftest import tiny_encoder


def test_known_answers():
    alike, orthogonal = torch.ones(4, 8), 3 * torch.eye(4, 8)
    assert cosine(alike).numpy() == pytest.approx(1.0) and mean_abs_cosine(-alike).item() == pytest.approx(1.0)
    assert effective_rank(alike).item() == pytest.approx(1.0) and effective_rank(orthogonal).item() == pytest.approx(4)
    assert mean_abs_cosine(orthogonal) == 0 and mean_abs_cosine(alike[:1]) == 0
    assert effective_rank(torch.zeros(4, 8)) == 1 and mean_abs_cosine(torch.zeros(4, 8)) == 0
    pair = torch.tensor([[1.0, 0.0], [-3.0, 4.0], [0.0, 2.0]])
    assert cosine(pair)[0, 1].item() == pytest.approx(-0.6)
    assert mean_abs_cosine(pair).item() == pytest.approx((0.6 + 0.8 + 0) / 3)
    spread = math.sqrt(((1 - 8 / 3) ** 2 + (5 - 8 / 3) ** 2 + (2 - 8 / 3) ** 2) / 3)
    assert [value.item() for value in norm(pair)] == pytest.approx([8 / 3, spread])
    skewed = torch.diag(torch.tensor([3.0, 1.0]))
    assert effective_rank(skewed).item() == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_averaged_over_layers_keys_and_values_it_is_the_selective_loss():
    encoder = spt.attach(tiny_encoder().double(), spt.PrefixConfig(prefix_length=6))
    matrices = torch.stack([torch.stack(prefix.vectors()) for prefix in prefixes(encoder)])
    assert matrices.shape[:3] == (2, 2, 6)
    torch.testing.assert_close(mean_abs_cosine(matrices).mean(), spt.selective_loss(encoder), rtol=1e-12, atol=0)


def test_a_models_measures_have_a_number_for_each_layer():
    model = spt.attach(tiny_encoder(), spt.PrefixConfig(prefix_length=5))
    measures = slot_similarity(model)
    assert {name: {kind: len(of) for kind, of in kinds.items()} for name, kinds in measures.items()} == {
        name: {"key": 2, "value": 2} for name in ("mean_abs_cosine", "effective_rank", "norm")
    }
    key, value = prefixes(model)[1].vectors()
    assert measures["norm"]["key"][1] == pytest.approx(norm(key)[0].item())
    assert measures["effective_rank"]["value"][1] == pytest.approx(effective_rank(value).item())
    assert slot_similarity(spt.detach(model)) is None
