"""Adapters are saved and loaded, and refused if they do not fit the model."""

import json

import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file, save_file

import spt
from spt.adapters.format import read_adapter
from tests.conftest import batch, tiny_encoder
from tests.test_configs import composed

CONFIGS = {
    "spt": spt.PrefixConfig(prefix_length=5),
    "prefix_tuning": spt.PrefixConfig(prefix_length=5, alpha=None, shift_positions=True),
    "projection": spt.PrefixConfig(prefix_length=5, alpha=None, projection=16),
    "fine_tuning": None,
}


def model(task_type="sentence", num_labels=3, config=None, seed=0, **encoder):
    built = spt.TaskModel(tiny_encoder(**encoder), task_type, num_labels)
    torch.manual_seed(seed)
    torch.nn.init.normal_(built.classifier.weight)
    return (spt.attach(built, config) if config else built).eval()


@pytest.mark.parametrize("attached_before", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("task_type", ["sentence", "choice", "token"])
def test_a_loaded_adapter_computes_what_was_saved(kind, task_type, attached_before, tmp_path):
    saved = model(task_type, config=CONFIGS[kind], seed=1)
    for parameter in saved.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    spt.save_adapter(saved, tmp_path / "adapter")
    loaded = model(task_type, config=spt.PrefixConfig(prefix_length=2) if attached_before else None)
    inputs = batch(choices=2 if task_type == "choice" else None)
    spt.load_adapter(loaded, tmp_path / "adapter")
    torch.testing.assert_close(loaded(**inputs).logits, saved(**inputs).logits)
    if kind != "projection":  # its prefixes are loaded without the projection
        assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
            n for n, p in saved.named_parameters() if p.requires_grad
        }


@pytest.mark.parametrize("method", ["lora", "bitfit"])
def test_lora_and_bitfit_are_saved_and_loaded(method, tmp_path):
    saved = model()
    instantiate(composed(f"method={method}").method, saved, _convert_="all")
    for parameter in saved.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    spt.save_adapter(saved, tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter.safetensors").stat().st_size < 20_000
    loaded = spt.load_adapter(model(), tmp_path / "adapter")
    torch.testing.assert_close(loaded(**batch()).logits, saved.eval()(**batch()).logits)
    again = spt.load_adapter(loaded, tmp_path / "adapter")
    torch.testing.assert_close(again(**batch()).logits, saved(**batch()).logits)
    spt.save_adapter(model(config=CONFIGS["spt"]), tmp_path / "spt")
    if method == "lora":
        plain = spt.load_adapter(model(), tmp_path / "spt")
        assert torch.equal(spt.load_adapter(loaded, tmp_path / "spt")(**batch()).logits, plain(**batch()).logits)
        assert not [name for name, _ in loaded.named_parameters() if "lora" in name]


def test_other_weights_of_the_same_architecture_are_refused(tmp_path):
    spt.save_adapter(model(config=CONFIGS["spt"]), tmp_path)
    other = model()
    other.encoder.encoder.layer[1].output.dense.weight.data.zero_()
    with pytest.raises(spt.SptError, match="trained on other weights than this model's"):
        spt.load_adapter(other, tmp_path)
    assert spt.attached(other) is None
    half = model()
    half.encoder.to(torch.bfloat16)
    assert spt.attached(spt.load_adapter(half, tmp_path)) == CONFIGS["spt"]


def test_a_refused_adapter_leaves_lora_in_place(tmp_path):
    spt.save_adapter(model(num_labels=4, config=CONFIGS["spt"]), tmp_path / "wrong")
    tuned = model()
    instantiate(composed("method=lora").method, tuned, _convert_="all")
    spt.save_adapter(model(config=CONFIGS["spt"]), tmp_path / "broken")
    kept = {n: t for n, t in load_file(tmp_path / "broken/adapter.safetensors").items() if "prefix" not in n}
    save_file(kept, tmp_path / "broken/adapter.safetensors")
    before = {name for name, _ in tuned.named_parameters()}
    for folder in ("wrong", "broken"):
        with pytest.raises(spt.SptError):
            spt.load_adapter(tuned, tmp_path / folder)
        assert {name for name, _ in tuned.named_parameters()} == before


def test_an_adapter_holds_prefixes_and_head_only(tmp_path):
    for kind in ("spt", "projection"):
        spt.save_adapter(model(config=CONFIGS[kind]), tmp_path / kind)
        weights = load_file(tmp_path / kind / "adapter.safetensors")
        assert sum(tensor.numel() for tensor in weights.values()) == 2 * 2 * 5 * 32 + 32 * 3 + 3
    assert {path.name for path in (tmp_path / "spt").iterdir()} == {"adapter.safetensors", "adapter.json"}


def test_the_adapter_of_a_bare_encoder(tmp_path):
    encoder = spt.attach(tiny_encoder(), CONFIGS["spt"]).eval()
    spt.save_adapter(encoder, tmp_path)
    loaded = spt.load_adapter(tiny_encoder(), tmp_path).eval()
    torch.testing.assert_close(loaded(**batch()).last_hidden_state, encoder(**batch()).last_hidden_state)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"num_labels": 4}, "num_labels is 3, the model's 4"),
        ({"task_type": "token"}, "task_type"),
        ({"family": "roberta"}, "architecture is 'BertModel'"),
        ({"hidden_size": 64}, "hidden_size"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 2, the model's 3"),
        ({"num_attention_heads": 8}, "num_attention_heads"),
        ({"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_and_unchanged(other, message, tmp_path):
    spt.save_adapter(model(config=CONFIGS["spt"]), tmp_path)
    wrong = model(config=spt.PrefixConfig(prefix_length=3), **other)
    before = {name: tensor.clone() for name, tensor in wrong.state_dict().items()}
    with pytest.raises(spt.SptError, match=message):
        spt.load_adapter(wrong, tmp_path)
    assert spt.attached(wrong) == spt.PrefixConfig(prefix_length=3)
    after = wrong.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[n], before[n]) for n in before)


def damaged(folder, how):
    description = folder / "adapter.json"
    weights = folder / "adapter.safetensors"
    if how == "no weights":
        weights.unlink()
    elif how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "not json":
        description.write_text("{")
    elif how == "unknown format":
        description.write_text(json.dumps(json.loads(description.read_text()) | {"format": 99}))
    elif how == "unknown prefix field":
        description.write_text(json.dumps(json.loads(description.read_text()) | {"prefix": {"length": 5}}))
    elif how == "no head":
        kept = {n: t for n, t in load_file(weights).items() if not n.startswith("classifier")}
        save_file(kept, weights)


@pytest.mark.parametrize(
    "how", ["no weights", "truncated", "not json", "unknown format", "unknown prefix field", "no head"]
)
def test_the_error_names_a_damaged_adapter(how, tmp_path):
    spt.save_adapter(model(config=CONFIGS["spt"]), tmp_path)
    damaged(tmp_path, how)
    with pytest.raises(spt.SptError, match=str(tmp_path)):
        spt.load_adapter(model(), tmp_path)


def test_a_fine_tuned_backbone_refuses_other_adapters(tmp_path):
    spt.save_adapter(model(), tmp_path / "fine_tuned")
    spt.save_adapter(model(config=CONFIGS["spt"]), tmp_path / "spt")
    loaded = spt.load_adapter(model(), tmp_path / "fine_tuned")
    with pytest.raises(spt.SptError, match="load the base model again"):
        spt.load_adapter(loaded, tmp_path / "spt")
    spt.load_adapter(loaded, tmp_path / "fine_tuned")


def test_what_an_adapter_changed_is_saved_again_though_it_is_frozen(tmp_path):
    saved = model()
    instantiate(composed("method=bitfit").method, saved, _convert_="all")
    for parameter in saved.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    spt.save_adapter(saved, tmp_path / "adapter")
    loaded = spt.load_adapter(model(), tmp_path / "adapter").requires_grad_(False)
    spt.save_adapter(loaded, tmp_path / "again")
    again = spt.load_adapter(model(), tmp_path / "again")
    torch.testing.assert_close(again(**batch()).logits, saved.eval()(**batch()).logits)
    spt.save_adapter(saved.requires_grad_(False), tmp_path / "without")  # nothing says that its biases were trained
    with pytest.raises(spt.SptError, match=r"trained on other weights than this model's \(encoder.*bias differs"):
        spt.load_adapter(model(), tmp_path / "without")


def test_a_wrapper_of_compile_is_refused(tmp_path):
    compiled = torch.compile(model(), backend="eager")
    with pytest.raises(spt.SptError, match="OptimizedModule is neither .*: pass the TaskModel in it"):
        spt.save_adapter(compiled, tmp_path)


def test_what_an_adapter_says_of_itself(tmp_path):
    spt.save_adapter(model(), tmp_path / "noted", about={"note": "mine"})
    with pytest.raises(spt.SptError, match="does not say which task and base model it is for"):
        spt.load(tmp_path / "noted")
    with pytest.raises(spt.SptError, match="about cannot be written as JSON: .*float32"):
        spt.save_adapter(model(), tmp_path / "odd", about={"f1": torch.ones(1).numpy()[0]})
    assert list((tmp_path / "odd").iterdir()) == []


def test_an_adapter_of_ones_own_loop_may_name_its_task(tmp_path):
    spt.save_adapter(model(), tmp_path, about={"task": "sentiment", "model": "bert", "dev": 0.91})
    assert not read_adapter(tmp_path).is_of_run
    with pytest.raises(spt.SptError, match="does not say which task and base model it is for"):
        spt.load(tmp_path)


def test_prefixes_of_the_same_settings_keep_their_parameters(tmp_path):
    saved, trained = (model(config=CONFIGS["spt"], seed=seed) for seed in (1, 2))
    for parameter in saved.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) * parameter.requires_grad
    spt.save_adapter(saved, tmp_path / "adapter")
    before = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    spt.load_adapter(trained, tmp_path)  # as the folder of a run
    after = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    assert len(before) == len(after) and all(old is new for old, new in zip(before, after, strict=True))
    torch.testing.assert_close(trained(**batch()).logits, saved(**batch()).logits)


def test_lora_on_a_backbone_in_bfloat16_trains_in_float32(tmp_path):
    half = spt.TaskModel(tiny_encoder().bfloat16(), "sentence", 3)
    instantiate(composed("method=lora").method, half, _convert_="all")
    assert {parameter.dtype for name, parameter in half.named_parameters() if "lora_" in name} == {torch.float32}
    assert half(**batch(), labels=torch.tensor([0, 1, 2])).loss.isfinite()


@pytest.mark.parametrize("method", ["fine_tuning", "bitfit"])
def test_training_the_backbone_in_half_precision_is_warned_of(method, caplog):
    instantiate(composed(f"method={method}").method, spt.TaskModel(tiny_encoder().bfloat16(), "sentence", 3))
    assert "trained in bfloat16, where small updates are lost" in caplog.text


def test_a_frozen_model_is_saved_completely(tmp_path):
    frozen = model(config=CONFIGS["spt"])
    frozen.requires_grad_(False)
    spt.save_adapter(frozen, tmp_path)
    torch.testing.assert_close(spt.load_adapter(model(), tmp_path)(**batch()).logits, frozen(**batch()).logits)
