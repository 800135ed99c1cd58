"""What holds for every family of encoders, and for each of the three task types.

`scripts/make_family_table.py` makes README's table of the results, by test name, parameters and reason of a skip.
"""

import pytest
import torch

import spt
from spt.modeling.position_shift import longest_input
from spt.modeling.prefix_parameters import prefixes
from tests.conftest import batch
from tests.families import EAGER_ONLY, FAMILIES, NOT_CHECKPOINTED, family

QUIET = {"key_dropout": 0.0, "score_dropout": 0.0}
RATES = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "dropout", "embedding_dropout"),
    *("attn_pdrop", "resid_pdrop", "embd_pdrop", "mlp_dropout"),
)
TASK_TYPES = ["sentence", "choice", "token"]
every_family = pytest.mark.parametrize("name", FAMILIES)


def task_model(name, task_type="sentence", prefix=None, attention="eager", **config):
    model = spt.TaskModel(family(name, attention, **config), task_type, num_labels=3, pooling=FAMILIES[name][1])
    return spt.attach(model, prefix or spt.PrefixConfig(prefix_length=5, **QUIET)).eval()


def inputs_of(task_type):
    return batch(choices=2 if task_type == "choice" else None)


def labels_of(task_type):
    return torch.ones(3, 10, dtype=torch.long) if task_type == "token" else torch.ones(3, dtype=torch.long)


@every_family
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_works(name, task_type, tmp_path):
    """Every prefix of every layer gets a gradient and moves the output; a saved adapter loads with the same output."""
    model, inputs = task_model(name, task_type), inputs_of(task_type)
    layers = prefixes(model)
    assert len(layers) == model.encoder.config.num_hidden_layers
    model(**inputs, labels=labels_of(task_type)).loss.backward()
    before = model(**inputs).logits
    for prefix in layers:
        for parameter in (prefix.key_prefix, prefix.value_prefix):
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0
            kept = parameter.data.clone()
            parameter.data += 1.0
            assert not torch.allclose(model(**inputs).logits, before, rtol=1e-4, atol=1e-5)
            parameter.data = kept
    assert all(is_trained(n) == p.requires_grad for n, p in model.named_parameters())
    loaded = spt.TaskModel(family(name), task_type, num_labels=3, pooling=FAMILIES[name][1])
    spt.load_adapter(loaded, spt.save_adapter(model, tmp_path))
    assert torch.equal(loaded.eval()(**inputs).logits, before)


def is_trained(name):
    return name.startswith("classifier.") or name.endswith(("key_prefix", "value_prefix"))


@every_family
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_padding_changes_nothing(name, task_type):
    model, inputs = task_model(name, task_type), inputs_of(task_type)
    kept = inputs["attention_mask"][2].sum(-1).max()
    together = model(**inputs).logits[2]
    alone = model(**{n: t[2:, ..., :kept] for n, t in inputs.items()}).logits[0]
    left = model(**{n: t.roll(3, -1) for n, t in inputs.items()}).logits[2]
    if task_type == "token":
        together, left = together[:kept], left[3 : 3 + kept]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(left, alone, rtol=1e-5, atol=1e-5)


@every_family
@pytest.mark.parametrize("alpha", [None, 8.0])
def test_fused(name, alpha):
    """Fused attention computes what eager attention does, where the family has it."""
    prefix = spt.PrefixConfig(prefix_length=5, alpha=alpha, **QUIET)
    if name in EAGER_ONLY:
        with pytest.raises(ValueError, match="scaled_dot_product_attention"):
            family(name, "sdpa")
        pytest.skip("no: transformers has no fused attention for it")
    for task_type in TASK_TYPES:
        eager, fused = (task_model(name, task_type, prefix, attention) for attention in ("eager", "sdpa"))
        assert fused.encoder.config._attn_implementation == "spt_fused"
        fused.load_state_dict(eager.state_dict())
        logits = [model(**inputs_of(task_type)).logits for model in (eager, fused)]
        torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)


@every_family
@pytest.mark.parametrize("attentions", ["eager", "sdpa"])
def test_a_closed_gate_leaves_the_models_own_output(name, attentions, monkeypatch):
    encoder = family(name, "eager" if name in EAGER_ONLY else attentions).eval()
    own = encoder(**batch()).last_hidden_state
    spt.attach(encoder, spt.PrefixConfig(prefix_length=5, **QUIET))
    whole = batch()["attention_mask"].bool()
    assert not torch.allclose(encoder(**batch()).last_hidden_state[whole], own[whole], atol=1e-3)
    monkeypatch.setattr(torch.nn.functional, "logsigmoid", lambda scores: torch.full_like(scores, -torch.inf))
    torch.testing.assert_close(encoder(**batch()).last_hidden_state[whole], own[whole], rtol=1e-5, atol=1e-5)
    monkeypatch.undo()
    spt.detach(encoder)
    assert torch.equal(encoder(**batch()).last_hidden_state, own)


@every_family
def test_bf16(name):
    for task_type in TASK_TYPES:
        model = spt.TaskModel(family(name).to(torch.bfloat16), task_type, num_labels=3, pooling=FAMILIES[name][1])
        spt.attach(model, spt.PrefixConfig(prefix_length=5)).train()
        model(**inputs_of(task_type), labels=labels_of(task_type)).loss.backward()
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:  # a choice's bias is the same for all choices: it has no gradient
                assert parameter.dtype == torch.float32 and parameter.grad.isfinite().all()
                assert key == "classifier.bias" or parameter.grad.abs().sum() > 0
    with torch.autocast("cpu", torch.bfloat16):
        assert task_model(name)(**batch()).logits.isfinite().all()


@every_family
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("attentions", ["eager", "sdpa"])
def test_checkpointing(name, attentions, reentrant):
    """Gradient checkpointing keeps every prefix's gradient, or is refused where transformers does not support it."""
    still = {rate: 0.0 for rate in RATES if hasattr(family(name).config, rate)}
    chosen = "eager" if name in EAGER_ONLY else attentions
    if name in NOT_CHECKPOINTED:
        with pytest.raises(spt.SptError, match="has no gradient checkpointing for"):
            task_model(name, attention=chosen).gradient_checkpointing_enable()
        pytest.skip("refused: transformers does not checkpoint it")
    models = [task_model(name, attention=chosen, **still).train() for _ in range(2)]
    models[1].gradient_checkpointing_enable({"use_reentrant": reentrant})
    for model in models:
        model.dropout.p = 0.0
        model(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    for (key, plain), (_, checkpointed) in zip(*(m.named_parameters() for m in models), strict=True):
        if plain.requires_grad:
            torch.testing.assert_close(checkpointed.grad, plain.grad, rtol=1e-4, atol=1e-6, msg=key)


def test_every_model_of_a_process_stays_compiled():
    """Beyond dynamo's limit of 8 compilations of one function torch would run a model uncompiled, without a word."""
    torch.compiler.reset()
    calls = []

    def backend(graph, inputs):
        return lambda *given: calls.append(graph) or graph(*given)

    for seed in range(10):
        torch.manual_seed(seed)
        model = task_model("BERT", attention="sdpa")
        before = len(calls)
        torch.compile(model, backend=backend)(**batch())
        assert len(calls) > before


@pytest.mark.parametrize(
    "name",
    [name if name == "BERT" else pytest.param(name, marks=pytest.mark.soak) for name in FAMILIES],
)
def test_compiled(name):
    torch.compiler.reset()
    model = task_model(name, attention="eager" if name in EAGER_ONLY else "sdpa")
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(**batch()).logits, model(**batch()).logits, rtol=1e-5, atol=1e-5)
    compiled(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(prefix.key_prefix.grad.abs().sum() > 0 for prefix in prefixes(model))


@every_family
def test_the_longest_input_runs(name):
    model = task_model(name)
    model(input_ids=torch.full((1, longest_input(model.encoder)), 7))


@every_family
def test_shifted_positions(name):
    """They move the output and shorten the longest input; families without such positions are refused."""
    shifted = spt.PrefixConfig(prefix_length=5, alpha=None, shift_positions=True, **QUIET)
    if name in {"DeBERTa", "DeBERTa-v2/v3"}:
        with pytest.raises(spt.SptError, match="no positions that could be shifted"):
            task_model(name, prefix=shifted)
        pytest.skip("refused: it has no positions that could be shifted")
    model = task_model(name, prefix=shifted)
    for prefix in prefixes(model):
        prefix.key_prefix.data *= 100
    plain = task_model(name, prefix=spt.PrefixConfig(prefix_length=5, alpha=None, **QUIET))
    plain.load_state_dict(model.state_dict())
    assert not torch.allclose(model(**batch()).logits, plain(**batch()).logits, atol=1e-4)
    assert longest_input(model.encoder) == longest_input(plain.encoder) - 5
    model(input_ids=torch.full((1, longest_input(model.encoder)), 7))
    with pytest.raises(spt.SptError, match="shorten the input or the prefix"):
        model(input_ids=torch.full((1, longest_input(model.encoder) + 1), 7))


@every_family
def test_projected_prefixes_are_saved_as_plain_ones(name, tmp_path):
    model = task_model(name, prefix=spt.PrefixConfig(prefix_length=5, alpha=None, projection=8, **QUIET))
    model(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.prefix_projection.parameters())
    loaded = spt.TaskModel(family(name), "sentence", num_labels=3, pooling=FAMILIES[name][1])
    spt.load_adapter(loaded, spt.save_adapter(model, tmp_path))
    torch.testing.assert_close(loaded.eval()(**batch()).logits, model(**batch()).logits)
