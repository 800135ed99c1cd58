"""A pooler that the checkpoint lacks: trained, or frozen at its random numbers as in the published runs."""

import json

import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import spt
from spt.paths import local_path
from spt.records.fingerprint import fingerprint
from spt.training.checkpoint import Checkpoint, training_state
from tests.conftest import batch, tiny_encoder
from tests.test_configs import composed

POOLER = {"encoder.pooler.dense.weight", "encoder.pooler.dense.bias"}


def without_pooler(encoder, folder):
    """Save an encoder as RoBERTa's checkpoints are: without the pooler."""
    encoder.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return without_pooler(tiny_encoder(), tmp_path_factory.mktemp("encoder"))


def model(checkpoint, seed, missing_pooler="frozen"):
    torch.manual_seed(seed)
    return spt.TaskModel(AutoModel.from_pretrained(checkpoint), "sentence", 2, missing_pooler=missing_pooler)


@pytest.mark.parametrize("missing_pooler", ["trained", "frozen"])
@pytest.mark.parametrize("method", ["spt", "prefix_tuning", "lora", "bitfit", "linear_probe", "fine_tuning"])
def test_it_is_frozen_unless_all_is_trained(method, missing_pooler, checkpoint, caplog):
    made = model(checkpoint, 0, missing_pooler)
    instantiate(composed(f"method={method}").method, made, _convert_="all")
    trained = {name for name, p in made.named_parameters() if p.requires_grad}
    is_trained = missing_pooler == "trained" or method == "fine_tuning"
    assert trained & POOLER == (POOLER if is_trained else set())
    end = "initialised at random, " + ("hence trained" if is_trained else "and frozen there")
    assert [r.getMessage().endswith(end) for r in caplog.records if "not in the checkpoint" in r.getMessage()] == [True]


def test_the_adapter_and_the_checkpoint_hold_its_numbers(checkpoint, tmp_path):
    saved = spt.attach(model(checkpoint, 0), spt.PrefixConfig(prefix_length=3)).eval()
    spt.save_adapter(saved, tmp_path / "adapter")
    for missing_pooler in ("frozen", "trained"):
        loaded = model(checkpoint, 1, missing_pooler).eval()
        assert not torch.equal(loaded.encoder.pooler.dense.weight, saved.encoder.pooler.dense.weight)
        spt.load_adapter(loaded, tmp_path / "adapter")
        assert torch.equal(loaded(**batch()).logits, saved(**batch()).logits)
        assert loaded.encoder.pooler.dense.weight.requires_grad == (missing_pooler == "trained")

    optimizer = torch.optim.AdamW([p for p in saved.parameters() if p.requires_grad])
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    state = training_state(saved, optimizer, scheduler, torch.amp.GradScaler("cpu", enabled=False))
    resumed = spt.attach(model(checkpoint, 2), spt.PrefixConfig(prefix_length=3)).eval()
    found = Checkpoint.model_construct(tensors=state["tensors"])
    assert found.fits(resumed)
    found.load_weights(resumed)
    assert torch.equal(resumed(**batch()).logits, saved(**batch()).logits)


@pytest.mark.parametrize(("task_type", "pooling"), [("token", "pooler"), ("sentence", "first"), ("sentence", "mean")])
def test_an_adapter_that_does_not_use_it_is_loaded_where_it_has_other_numbers(task_type, pooling, checkpoint, tmp_path):
    def made(seed):
        torch.manual_seed(seed)
        return spt.TaskModel(AutoModel.from_pretrained(checkpoint), task_type, 2, pooling).eval()

    saved = spt.attach(made(0), spt.PrefixConfig(prefix_length=3)).eval()
    spt.save_adapter(saved, tmp_path)
    loaded = spt.load_adapter(made(1), tmp_path).eval()
    inputs = {name: tensor for name, tensor in batch().items() if name != "labels"}
    assert torch.equal(loaded(**inputs).logits, saved(**inputs).logits)


def test_an_adapter_of_a_method_that_freezes_it_holds_its_numbers(checkpoint, tmp_path):
    saved = model(checkpoint, 0, "trained").eval()
    saved.encoder.requires_grad_(False)  # as in a method of one's own, which knows nothing of poolers
    spt.save_adapter(saved, tmp_path)
    loaded = spt.load_adapter(model(checkpoint, 1, "trained").eval(), tmp_path)
    assert torch.equal(loaded(**batch()).logits, saved(**batch()).logits)


def test_a_published_cell_freezes_it_and_says_so(train, tmp_path):
    """The recipe of RTE on roberta-large, with the demo's data and its encoder without the pooler."""
    encoder = AutoModel.from_pretrained(local_path("pkg://spt/demo/encoder"))
    folder = without_pooler(encoder, tmp_path / "encoder")
    for path in local_path("pkg://spt/demo/encoder").glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    cell = (
        "task=rte", "method=spt_sl", "model=roberta-large", f"model.name_or_path={folder}", "method.prefix_length=3",
        "task.data_dir=pkg://spt/demo/pair", "task.labels=[yes,no]", "task.max_length=64", "trainer.max_steps=1",
    )  # fmt: skip
    tuned = [override for override in cell if not override.startswith("method")]
    runs = (
        ((*cell, "seed=11"), "frozen"),
        ((*cell, "model.missing_pooler=null"), "trained"),
        ((*tuned, "method=fine_tuning", "recipe=none", "model.missing_pooler=frozen"), "trained"),
    )
    for number, (overrides, state) in enumerate(runs):
        code, out, err = train(*overrides, output_dir=tmp_path / str(number))
        assert code == 0, err
        assert f"its pooler {state}, from random numbers" in " ".join(out.split())
        (path,) = (tmp_path / str(number)).glob("*/record.json")
        record = json.loads(path.read_text())
        assert record["missing_pooler"] == state
        assert (record["trainable_by_group"]["backbone"] > 0) == (state == "trained")
        predicted = [list(spt.load(path.parent).stream([("a wug", "a dax")])) for _ in range(2)]
        assert predicted[0] == predicted[1]


def test_unset_it_is_no_part_of_a_runs_identity():
    before = {"model": {"name": "a"}, "seed": 1, "trainer": {}}
    config = before | {"model": {"name": "a", "missing_pooler": None}}
    assert fingerprint(config) == fingerprint(before)
    assert fingerprint(before | {"model": {"name": "a", "missing_pooler": "frozen"}}) != fingerprint(before)


def test_other_values_are_refused():
    with pytest.raises(spt.SptError, match="unknown missing_pooler 'none': known: frozen, trained"):
        spt.TaskModel(tiny_encoder(), "sentence", 2, missing_pooler="none")
