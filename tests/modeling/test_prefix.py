"""`attach` and what follows from it, on tiny encoders."""

import copy
import gc
import itertools
import math
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, RoFormerConfig, RoFormerModel, T5Config, T5Model

import spt
from spt.modeling.position_shift import longest_input
from spt.modeling.prefix_parameters import prefixes
from tests import families
from tests.conftest import batch, tiny_encoder

QUIET = {"key_dropout": 0.0, "score_dropout": 0.0}
FAMILIES = ["bert", "roberta"]


def task_model(family="bert", task_type="sentence", config=None, **encoder):
    model = spt.TaskModel(tiny_encoder(family, **encoder), task_type, num_labels=3)
    return spt.attach(model, config or spt.PrefixConfig(prefix_length=5, **QUIET)).eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task_type", ["sentence", "choice", "token"])
def test_every_prefix_moves_the_output_and_gets_a_gradient(family, task_type):
    model = task_model(family, task_type)
    inputs = batch(choices=2 if task_type == "choice" else None)
    labels = torch.ones(3, 10, dtype=torch.long) if task_type == "token" else torch.ones(3, dtype=torch.long)
    names = [name for name, _ in model.named_parameters() if name.endswith("_prefix")]
    assert len(names) == 4 and [n.rsplit(".", 1)[1] for n in names] == ["key_prefix", "value_prefix"] * 2
    model(**inputs, labels=labels).loss.backward()
    before = model(**inputs).logits
    for name in names:
        parameter = model.get_parameter(name)
        assert parameter.shape == (5, 32) and parameter.grad.abs().sum() > 0
        kept = parameter.data.clone()
        parameter.data += 1.0
        assert not torch.allclose(model(**inputs).logits, before)
        parameter.data = kept


@pytest.mark.parametrize("family", FAMILIES)
def test_only_prefixes_and_head_train(family):
    model = task_model(family)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(n.startswith("classifier.") or n.endswith("_prefix") for n in trainable)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 2 * 5 * 32 + 32 * 3 + 3
    assert model.encoder.pooler.dense.weight.requires_grad is False


def test_initialisation_is_the_papers():
    model = task_model(config=spt.PrefixConfig(prefix_length=64), hidden_size=256, num_attention_heads=4)
    vectors = torch.cat([torch.cat(prefix.vectors()) for prefix in prefixes(model)])
    assert abs(vectors.mean()) < 1e-3 and abs(vectors.std() - 0.02) < 1e-3
    assert (model.classifier.bias == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("alpha", [None, 8.0])
def test_eager_is_fused(family, alpha):
    config = spt.PrefixConfig(prefix_length=5, alpha=alpha, **QUIET)
    models = [task_model(family, config=config, attention=attention) for attention in ("eager", "sdpa")]
    models[1].load_state_dict(models[0].state_dict())
    logits = [model(**batch()).logits for model in models]
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-6)
    weights = [model(**batch(), output_attentions=True).attentions for model in models]
    for eager, fused in zip(*weights, strict=True):
        assert eager.shape == (3, 4, 10, 15)
        torch.testing.assert_close(eager, fused, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_keeps_every_gradient(reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = task_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shift", [False, True])
def test_padding_changes_nothing(family, shift):
    model = task_model(family, config=spt.PrefixConfig(prefix_length=5, shift_positions=shift, **QUIET))
    inputs = batch()
    row = {name: tensor[2:, :6] for name, tensor in inputs.items()}
    torch.testing.assert_close(model(**inputs).logits[2:], model(**row).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_backbone_keeps_float32_prefixes(dtype):
    model = spt.TaskModel(tiny_encoder().to(dtype), "sentence", num_labels=3)
    spt.attach(model, spt.PrefixConfig(prefix_length=5)).train()
    for prefix in prefixes(model):
        prefix.key_prefix.data.mul_(0).sub_(2000.0)
    loss = model(**batch(), labels=torch.tensor([0, 1, 2])).loss + spt.selective_loss(model)
    loss.backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.dtype == torch.float32 and parameter.grad.isfinite().all(), name


def test_shifted_positions_are_position_ids_from_p():
    config = spt.PrefixConfig(prefix_length=5, alpha=None, shift_positions=True, **QUIET)
    shifted = task_model(config=config)
    plain = task_model(config=spt.PrefixConfig(prefix_length=5, alpha=None, **QUIET))
    plain.load_state_dict(shifted.state_dict())
    inputs = batch()
    positions = torch.arange(5, 15).expand(3, -1)
    torch.testing.assert_close(shifted(**inputs).logits, plain(**inputs, position_ids=positions).logits)
    assert not torch.allclose(shifted(**inputs).logits, plain(**inputs).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_position_ids_are_found_by_what_they_change(family, monkeypatch):
    """Not by the names of arguments, which transformers changes and hides behind decorators."""
    config = spt.PrefixConfig(prefix_length=5, alpha=None, shift_positions=True, **QUIET)
    expected = task_model(family, config=config)
    of_family, own = type(expected.encoder), type(expected.encoder).forward
    monkeypatch.setattr(of_family, "forward", lambda self, *args, **inputs: own(self, *args, **inputs))
    model = task_model(family, config=config)
    model.load_state_dict(expected.state_dict())
    assert torch.equal(model(**batch()).logits, expected(**batch()).logits)


@pytest.mark.parametrize(("family", "positions"), [("bert", 64), ("roberta", 62)])
def test_longest_input_is_what_the_position_table_leaves(family, positions):
    config = spt.PrefixConfig(prefix_length=5, alpha=None, shift_positions=True, **QUIET)
    model = task_model(family, config=config)
    assert longest_input(model.encoder) == positions - 5
    assert longest_input(tiny_encoder(family)) == positions
    ids = torch.full((1, positions - 5), 7)
    model(input_ids=ids)
    with pytest.raises(spt.SptError, match=f"{positions - 4} tokens is longer than {positions - 5}"):
        model(input_ids=torch.full((1, positions - 4), 7))


def test_a_model_whose_positions_have_no_limit_takes_any_length():
    encoder = tiny_encoder()
    encoder.config.max_position_embeddings = -1  # XLNet's
    assert longest_input(encoder) is None


def test_the_selective_loss_is_not_rounded_under_autocast():
    model = spt.TaskModel(tiny_encoder(), "sentence", 2)
    spt.attach(model, spt.PrefixConfig(5))
    with torch.autocast("cpu", torch.bfloat16):
        loss = spt.selective_loss(model)
    assert loss.dtype == torch.float32 and loss == spt.selective_loss(model)


def test_projection_computes_plain_prefixes():
    config = spt.PrefixConfig(prefix_length=5, alpha=None, projection=16, **QUIET)
    model = task_model(config=config)
    names = {name for name, p in model.named_parameters() if p.requires_grad and "classifier" not in name}
    assert names == {
        f"encoder.prefix_projection.{name}"
        for name in ("embedding", "hidden.weight", "hidden.bias", "output.weight", "output.bias")
    }
    plain = task_model(config=spt.PrefixConfig(prefix_length=5, alpha=None, **QUIET))
    plain.classifier.load_state_dict(model.classifier.state_dict())
    for free, projected in zip(prefixes(plain), prefixes(model), strict=True):
        free.key_prefix.data, free.value_prefix.data = (vector.detach() for vector in projected.vectors())
    torch.testing.assert_close(model(**batch()).logits, plain(**batch()).logits)
    (model(**batch(), labels=torch.tensor([0, 1, 2])).loss + spt.selective_loss(model)).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.prefix_projection.parameters())


def test_a_bare_encoder_takes_prefixes_and_gives_them_back():
    encoder = tiny_encoder().eval()
    before = encoder(**batch()).last_hidden_state
    spt.attach(encoder, spt.PrefixConfig(prefix_length=5))
    assert spt.attached(encoder) == spt.PrefixConfig(prefix_length=5)
    assert not torch.allclose(encoder(**batch()).last_hidden_state, before)
    assert spt.selective_loss(encoder) > 0
    spt.detach(encoder)
    assert spt.attached(encoder) is None
    torch.testing.assert_close(encoder(**batch()).last_hidden_state, before)


def test_encoders_of_one_configuration_do_not_touch_each_other():
    shared = tiny_encoder().config
    encoders = [type(tiny_encoder())(shared).eval() for _ in range(2)]
    before = [encoder(**batch()).last_hidden_state for encoder in encoders]
    spt.attach(encoders[0], spt.PrefixConfig(prefix_length=5))
    with_prefix = encoders[0](**batch()).last_hidden_state
    assert torch.equal(encoders[1](**batch()).last_hidden_state, before[1])
    spt.attach(encoders[1], spt.PrefixConfig(prefix_length=3))
    spt.detach(encoders[1])
    assert torch.equal(encoders[1](**batch()).last_hidden_state, before[1])
    assert torch.equal(encoders[0](**batch()).last_hidden_state, with_prefix)


@pytest.mark.parametrize("config", [{}, {"alpha": None, "shift_positions": True}, {"alpha": None, "projection": 8}])
def test_a_copy_is_a_model_of_its_own(config):
    model = task_model(config=spt.PrefixConfig(prefix_length=5, **config))
    logits = model(**batch()).logits
    other = copy.deepcopy(model)
    assert torch.equal(other(**batch()).logits, logits)
    for parameter in other.parameters():
        parameter.data.zero_()
    spt.detach(other)
    assert torch.equal(model(**batch()).logits, logits) and spt.attached(model) is not None


def test_a_deleted_encoder_is_freed():
    encoder = spt.attach(tiny_encoder(), spt.PrefixConfig(prefix_length=5))
    reference = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert reference() is None


def test_an_attention_chosen_later_keeps_the_prefixes():
    model = task_model()
    logits = model(**batch()).logits
    model.encoder.set_attn_implementation("eager")
    out = model(**batch(), output_attentions=True)
    torch.testing.assert_close(out.logits, logits, rtol=1e-5, atol=1e-6)
    assert out.attentions[0].shape[-1] == 15
    model.encoder.set_attn_implementation("sdpa")
    torch.testing.assert_close(model(**batch()).logits, logits)
    model.encoder.set_attn_implementation("eager")
    spt.detach(model)
    assert model.encoder.config._attn_implementation == "eager"
    assert model(**batch(), output_attentions=True).attentions[0].shape[-1] == 10


def test_a_refused_attach_leaves_the_encoder_as_it_was():
    encoder = families.family("DeBERTa")
    encoder.encoder.eval()
    before = {name: p.requires_grad for name, p in encoder.named_parameters()}
    modes = [module.training for module in encoder.modules()]
    with pytest.raises(spt.SptError, match="no positions that could be shifted"):
        spt.attach(encoder, spt.PrefixConfig(shift_positions=True, projection=16))
    assert {name: p.requires_grad for name, p in encoder.named_parameters()} == before
    assert [module.training for module in encoder.modules()] == modes and spt.attached(encoder) is None


def test_shifted_positions_of_embedded_input():
    config = spt.PrefixConfig(prefix_length=5, alpha=None, shift_positions=True, **QUIET)
    inputs = batch()
    for family in FAMILIES:
        model = task_model(family, config=config)
        embedded = model.encoder.get_input_embeddings()(inputs["input_ids"])
        if family == "roberta":
            with pytest.raises(spt.SptError, match="needs input_ids"):
                model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"])
        else:
            out = model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"])
            torch.testing.assert_close(out.logits, model(**inputs).logits)


def test_a_module_that_is_not_an_encoder_is_refused():
    with pytest.raises(spt.SptError, match="neither a TaskModel nor"):
        spt.attach(torch.nn.Linear(2, 2), spt.PrefixConfig())


def test_attach_twice_is_refused():
    model = task_model()
    with pytest.raises(spt.SptError, match="already carries prefixes"):
        spt.attach(model, spt.PrefixConfig())


def test_an_encoder_that_would_ignore_prefixes_is_refused():
    config = RoFormerConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=100
    )
    with pytest.raises(spt.SptError, match="no effect"):
        spt.attach(RoFormerModel(config), spt.PrefixConfig())
    with pytest.raises(spt.SptError, match="encoder-decoder"):
        spt.attach(T5Model(T5Config(d_model=32, d_kv=8, num_layers=1, num_heads=4)), spt.PrefixConfig())


def test_a_pooler_missing_from_the_checkpoint_is_trained_with_a_warning(tmp_path, caplog):
    tiny_encoder().save_pretrained(tmp_path)
    whole = spt.TaskModel(AutoModel.from_pretrained(tmp_path), "sentence", num_labels=2)
    assert not spt.attach(whole, spt.PrefixConfig()).encoder.pooler.dense.weight.requires_grad
    assert not caplog.records

    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    broken = spt.TaskModel(AutoModel.from_pretrained(tmp_path), "sentence", num_labels=2)
    assert spt.attach(broken, spt.PrefixConfig()).encoder.pooler.dense.weight.requires_grad
    assert "pooler.dense.weight, pooler.dense.bias not in the checkpoint" in caplog.text

    for changed in (copy.deepcopy, lambda encoder: encoder.requires_grad_(False)):
        caplog.clear()
        model = spt.TaskModel(changed(AutoModel.from_pretrained(tmp_path)), "sentence", num_labels=2)
        assert spt.attach(model, spt.PrefixConfig()).encoder.pooler.dense.weight.requires_grad
        assert "pooler.dense.weight" in caplog.text

    caplog.clear()
    tokens = spt.TaskModel(AutoModel.from_pretrained(tmp_path), "token", num_labels=2)
    assert not spt.attach(tokens, spt.PrefixConfig()).encoder.pooler.dense.weight.requires_grad
    assert not [r for r in caplog.records if r.name == "spt.modeling.freeze_parameters"]


@pytest.mark.parametrize("length", [1, 2, 7])
def test_selective_loss_is_the_mean_cosine(length):
    model = task_model(config=spt.PrefixConfig(prefix_length=length)).double()
    total, pairs = 0.0, 0
    for prefix in prefixes(model):
        for matrix in prefix.vectors():
            for i in range(length):
                for j in range(i + 1, length):
                    norms = [math.sqrt((matrix[k] @ matrix[k]).item() + 1e-8) for k in (i, j)]
                    total += abs((matrix[i] @ matrix[j]).item()) / (norms[0] * norms[1])
                    pairs += 1
    assert spt.selective_loss(model).item() == pytest.approx(total / pairs if pairs else 0.0, rel=1e-9)


def test_selective_loss_at_the_start_is_that_of_random_vectors():
    model = task_model(config=spt.PrefixConfig(prefix_length=40), hidden_size=768, num_attention_heads=4)
    assert spt.selective_loss(model).item() == pytest.approx(math.sqrt(2 / (math.pi * 768)), rel=0.03)


def test_selective_loss_needs_prefixes(encoder):
    with pytest.raises(spt.SptError, match="carries none"):
        spt.selective_loss(encoder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix_length": 0},
        {"prefix_length": -3},
        {"prefix_length": 2.5},
        {"prefix_length": True},
        {"alpha": 0.0},
        {"alpha": -1.0},
        {"alpha": math.inf},
        {"alpha": math.nan},
        {"alpha": "8"},
        {"key_dropout": 1.0},
        {"key_dropout": -0.1},
        {"value_dropout": math.nan},
        {"score_dropout": None},
        {"projection": 0},
        {"shift_positions": 1},
        {"shifted_by": 20},  # without shift_positions
    ],
)
def test_values_out_of_range_are_named(wrong):
    (name,) = wrong
    with pytest.raises(spt.SptError, match=name):
        spt.PrefixConfig(**wrong)


def test_layers_of_several_widths_have_a_selective_loss(monkeypatch):
    """As Gemma 4's, whose layers differ: the mean over all pairs of all layers."""
    drawn = [[torch.randn(3, width) for _ in range(2)] for width in (16, 32, 16)]
    layers = [SimpleNamespace(vectors=lambda own=own: own) for own in drawn]
    monkeypatch.setattr(sys.modules["spt.modeling.selective_loss"], "prefixes", lambda model: layers)
    pairs = [
        torch.cosine_similarity(matrix[i], matrix[j], dim=0).abs()
        for own in drawn
        for matrix in own
        for i, j in itertools.combinations(range(3), 2)
    ]
    torch.testing.assert_close(spt.selective_loss(torch.nn.Identity()), torch.stack(pairs).mean())


def test_an_encoder_is_tried_in_full_precision():
    """A program may have asked for float32 products in TF32 or bfloat16, whose rounding looks like other attention."""
    encoder, seen = tiny_encoder(), set()
    encoder.register_forward_hook(lambda *_: seen.add(torch.get_float32_matmul_precision()))
    torch.set_float32_matmul_precision("medium")
    try:
        spt.attach(encoder, spt.PrefixConfig(prefix_length=2))
        assert seen == {"highest"} and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
