"""The authors' own numbers, reproduced through the public API. Skipped if ../shared/golden is missing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel, get_linear_schedule_with_warmup

import spt
from spt.modeling import cpu_kernel

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
FAMILIES = {"bert": (BertConfig, BertModel), "roberta": (RobertaConfig, RobertaModel)}
TASK_TYPES = {"seqcls": "sentence", "tokcls": "token", "mc": "choice"}
SPT_CASES = sorted(path.stem for path in GOLDEN.glob("*_tau*_alpha*.json"))
PTUNING_CASES = sorted(path.stem for path in GOLDEN.glob("ptuning_v2_*.json"))

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the authors' golden numbers are not at ../shared/golden")


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def close(actual, expected):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=1e-9, atol=1e-12)


def read(case):
    return json.loads((GOLDEN / f"{case}.json").read_text()), load_file(GOLDEN / f"{case}.safetensors")


def build(meta, tensors, prefix, attention, state="state."):
    """A TaskModel with the case's weights, renamed from the authors' names, and the case's inputs."""
    arch = meta["arch"]
    config_class, model_class = FAMILIES[arch]
    names = (
        "hidden_size num_hidden_layers num_attention_heads intermediate_size vocab_size max_position_embeddings "
        "type_vocab_size layer_norm_eps hidden_dropout_prob attention_probs_dropout_prob pad_token_id hidden_act"
    )
    config = config_class(**{n: meta["config"][n] for n in names.split() if n in meta["config"]})
    encoder = model_class._from_config(config, attn_implementation=attention)
    head = tensors[f"{state}classifier.weight"]
    model = spt.TaskModel(encoder, TASK_TYPES[meta["head"]], num_labels=len(head))
    spt.attach(model, prefix)
    weights = {}
    for name, tensor in tensors.items():
        if name.startswith(state):
            name = name.removeprefix(state).replace(f"{arch}.", "encoder.", 1)
            name = name.replace("pseudo_prefix_encoder.", "prefix.").replace("_prefix.weight", "_prefix")
            weights[name] = tensor
    missing, _ = model.load_state_dict(weights, strict=False)
    # The authors' token models have no pooler, and TaskModel does not use it for tokens.
    assert all("pooler" in n or "prefix" in n for n in missing), missing
    inputs = {n.removeprefix("input."): t for n, t in tensors.items() if n.startswith("input.")}
    return model, inputs


def selective(meta, **dropouts):
    config = meta["config"]
    rates = {"key_dropout": 0.0, "score_dropout": 0.0} | dropouts
    return spt.PrefixConfig(prefix_length=config["pre_seq_len"], alpha=config["tau"], **rates)


def golden_name(name, arch):
    name = name.replace("encoder.", f"{arch}.", 1) if name.startswith("encoder.") else name
    return (
        name.replace(".prefix.", ".pseudo_prefix_encoder.")
        .replace("_prefix", "_prefix.weight")
        .replace("pseudo_prefix.weight", "pseudo_prefix")
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", SPT_CASES)
def test_losses_gradients_and_attention(case, attention):
    meta, tensors = read(case)
    model, inputs = build(meta, tensors, selective(meta), attention)
    sl_weight = meta["config"]["alpha"]
    for tag in ("eval", "train0"):
        model.train(tag == "train0")
        out = model(**inputs)
        close(out.logits, tensors[f"{tag}.logits"])
        sl = spt.selective_loss(model)
        close(out.loss, tensors[f"{tag}.task_loss"])
        close(sl, tensors[f"{tag}.regular_loss"])
        close(out.loss + sl_weight * sl, tensors[f"{tag}.loss"])
        for kind, loss in (("total", out.loss + sl_weight * sl), ("task", out.loss), ("regular", sl)):
            expected = {name for name in tensors if name.startswith(f"{tag}.grad_{kind}.")}
            model.zero_grad()
            loss.backward(retain_graph=True)
            for name, parameter in model.named_parameters():
                key = f"{tag}.grad_{kind}.{golden_name(name, meta['arch'])}"
                if key in tensors:
                    close(parameter.grad, tensors[key])
                    expected.remove(key)
                else:
                    assert parameter.grad is None or kind != "total", f"{name} should be frozen"
            assert not expected
    model.eval()
    out = model(**inputs, output_attentions=True, output_hidden_states=True)
    for layer in range(meta["config"]["num_hidden_layers"]):
        close(out.attentions[layer], tensors[f"eval.attentions.{layer}"])
        close(out.hidden_states[layer + 1], tensors[f"eval.hidden_states.{layer + 1}"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dropouts_act_where_the_authors_do(attention, monkeypatch):
    meta, tensors = read("dropout_bert_seqcls")
    config = meta["config"]
    prefix = selective(meta, key_dropout=config["key_dropout_prob"], score_dropout=config["scores_dropout_prob"])
    model, inputs = build(meta, tensors, prefix, attention)
    calls = iter(meta["dropout_calls"])

    def replay(input, p=0.5, training=True, inplace=False):
        if p == 0 or not training:
            return input
        call = next(calls)
        assert (p, list(input.shape)) == (call["p"], call["shape"]), call["module"]
        return input * tensors[f"mask.{call['module']}"]

    drawn = {}  # cpu_attention draws each mask again in its backward pass

    def replay_kept(like, rate, generators):
        call = generators[0].initial_seed(), like.shape
        if call not in drawn:
            drawn[call] = replay(torch.ones_like(like), rate)
        return (drawn[call] != 0).to(like.dtype)

    monkeypatch.setattr(torch.nn.functional, "dropout", replay)
    monkeypatch.setattr(cpu_kernel, "keep_mask", replay_kept)
    model.train()
    out = model(**inputs, output_attentions=attention == "eager")
    assert next(calls, None) is None
    sl = spt.selective_loss(model)
    close(out.logits, tensors["dropout.logits"])
    close(out.loss + config["alpha"] * sl, tensors["dropout.loss"])
    for layer, weights in enumerate(out.attentions or ()):
        close(weights, tensors[f"dropout.attentions.{layer}"])
    (out.loss + config["alpha"] * sl).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            close(parameter.grad, tensors[f"dropout.grad_total.{golden_name(name, 'bert')}"])


def test_five_steps_of_adamw():
    meta, tensors = read("traj_torch_bert_seqcls")
    model, inputs = build(meta, tensors, selective(meta), "sdpa", state="state0.")
    model.train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=meta["hyper"]["lr"], weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, meta["hyper"]["steps"])
    for step in meta["trajectory"]:
        loss = model(**inputs).loss + meta["config"]["alpha"] * spt.selective_loss(model)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trainable, meta["hyper"]["max_grad_norm"])
        close(loss, step["loss"])
        close(norm, step["grad_norm_before_clip"])
        close(schedule.get_last_lr()[0], step["lr"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            close(parameter, tensors[f"final.{golden_name(name, 'bert')}"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", PTUNING_CASES)
def test_p_tuning_v2(case, attention):
    meta, tensors = read(case)
    config = meta["config"]
    prefix = spt.PrefixConfig(
        prefix_length=config["pre_seq_len"],
        alpha=None,
        key_dropout=0.0,
        shift_positions=True,
        projection=config["prefix_hidden_size"] if meta["projection"] else None,
    )
    model, inputs = build(meta, tensors, prefix, attention)
    published = {n.removeprefix("state.prefix_encoder."): t for n, t in tensors.items() if ".prefix_encoder." in n}
    if meta["projection"]:
        projection = model.encoder.prefix_projection
        parameters = {
            "embedding.weight": projection.embedding,
            "trans.0.weight": projection.hidden.weight,
            "trans.0.bias": projection.hidden.bias,
            "trans.2.weight": projection.output.weight,
            "trans.2.bias": projection.output.bias,
        }
        for name, parameter in parameters.items():
            parameter.data.copy_(published[name])
    else:
        parameters = {n: p for n, p in model.named_parameters() if n.endswith("_prefix")}
        blocks = published["embedding.weight"].chunk(len(parameters), dim=1)
        for parameter, block in zip(parameters.values(), blocks, strict=True):
            parameter.data.copy_(block)
    model.eval()
    out = model(**inputs)
    out.loss.backward()
    close(out.logits, tensors["eval.logits"])
    close(out.loss, tensors["eval.loss"])
    for name in ("weight", "bias"):
        close(model.classifier.get_parameter(name).grad, tensors[f"eval.grad.classifier.{name}"])
    if meta["projection"]:
        for name, parameter in parameters.items():
            close(parameter.grad, tensors[f"eval.grad.prefix_encoder.{name}"])
    else:
        together = torch.cat([parameter.grad for parameter in parameters.values()], dim=1)
        close(together, tensors["eval.grad.prefix_encoder.embedding.weight"])
    out = model(**inputs, output_attentions=True, output_hidden_states=True)
    for layer in range(config["num_hidden_layers"]):
        close(out.attentions[layer], tensors[f"eval.attentions.{layer}"])
        close(out.hidden_states[layer + 1], tensors[f"eval.hidden_states.{layer + 1}"])
