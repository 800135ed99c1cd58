"""Pruned adapters: the predictions of the masked full one, in a smaller adapter that every command takes."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import spt
from spt.adapters.format import read_adapter
from spt.adapters.hub import fetch, push_adapter
from spt.adapters.pruned import save_pruned
from spt.insight.inspect_adapter import inspect
from spt.insight.interventions import slot_order, without_slots
from spt.modeling.attention_probe import inspected_attention
from spt.modeling.prefix_parameters import prefixes
from spt.modeling.task_model import TaskModel
from spt.train import main as train_command
from tests.conftest import batch
from tests.families import FAMILIES, family

P = 5
CASES = [
    *((name, {"alpha": 8.0}) for name in FAMILIES),
    *((name, {"alpha": None, "shift_positions": True}) for name in ("BERT", "RoBERTa", "ALBERT", "GPT-2")),
    *((name, {"alpha": None, "shift_positions": True, "projection": 8}) for name in ("BERT", "Llama")),
]


def model_of(name: str, **config) -> TaskModel:
    model = TaskModel(family(name), "sentence", num_labels=3, pooling=FAMILIES[name][1])
    if config:
        spt.attach(model, spt.PrefixConfig(prefix_length=P, **config))
    torch.manual_seed(3)
    for parameter in (each for prefix in prefixes(model) for each in prefix.parameters()):
        parameter.data.normal_()
    return model.eval()


@pytest.mark.parametrize(("name", "config"), CASES)
def test_a_pruned_adapter_predicts_as_the_masked_one(name, config, tmp_path):
    full = model_of(name, **config)
    spt.save_adapter(full, tmp_path / "full")
    labelled = [batch() | {"labels": torch.tensor([0, 2, 1])}]
    order = slot_order(inspect(full, labelled))
    save_pruned(read_adapter(tmp_path / "full"), full, order[:, :2].tolist(), tmp_path / "pruned", {"of": "mine"})
    pruned = spt.load_adapter(model_of(name), tmp_path / "pruned")
    assert (spt.attached(pruned).prefix_length, spt.attached(pruned).projection) == (2, None)
    assert spt.attached(pruned).shifted_by == (P if "shift_positions" in config else None)
    full.double(), pruned.double()
    with torch.no_grad(), inspected_attention(full, change_log_gate=without_slots(order.argsort(dim=-1) >= 2)):
        masked = full(**batch()).logits
    logits = pruned(**batch()).logits
    torch.testing.assert_close(logits, masked, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(logits, full(**batch()).logits, atol=1e-4)
    spt.save_adapter(pruned, tmp_path / "again")  # keeps its positions
    assert read_adapter(tmp_path / "again").description.prefix == read_adapter(tmp_path / "pruned").description.prefix
    assert read_adapter(tmp_path / "pruned").about == {"of": "mine"}


def test_an_adapter_with_all_its_slots_is_the_adapter(tmp_path):
    full = model_of("BERT", alpha=None, shift_positions=True)
    spt.save_adapter(full, tmp_path / "full")
    adapter = read_adapter(tmp_path / "full")
    save_pruned(adapter, full, [list(range(P))] * 2, tmp_path / "same", {})
    for name in ("adapter.safetensors", "adapter.json"):
        assert (tmp_path / "same" / name).read_bytes() == (tmp_path / "full" / name).read_bytes()


@pytest.fixture(scope="module")
def full(tmp_path_factory, data) -> Path:
    """A run of P-tuning v2 with a projection and shifted positions."""
    folder = tmp_path_factory.mktemp("pruned")
    settings = ["method=p_tuning_v2", "method.prefix_length=6", "method.projection=8", "trainer.max_steps=3"]
    where = ["model=demo", "task=demo_pair", f"task.data_dir={data}/demo_pair", f"output_dir={folder}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["spt.train", *where, *settings])
        train_command()
    (run,) = folder.glob("demo_pair.*")
    return run


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command that succeeds in this process; returns its standard output."""

    def call(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"spt.{name}", *arguments])
        importlib.import_module(f"spt.{name}").main()
        return capsys.readouterr().out

    return call


def test_the_command_and_what_takes_a_pruned_adapter(full, command, tmp_path):
    out = command("prune", f"run={full}", "keep=2", "split=train")
    made = full / "pruned_2"
    assert {path.name for path in made.iterdir()} == {"adapter"}
    sizes = [(folder / "adapter/adapter.safetensors").stat().st_size for folder in (full, made)]
    assert sizes[1] < sizes[0] and all(f"{size:,} bytes" in out for size in sizes) and str(made) in out
    adapter, was = read_adapter(made / "adapter"), read_adapter(full / "adapter")
    pruned, training = adapter.run.pruned, adapter.training
    assert (pruned.keep, pruned.prefix_length, pruned.split, pruned.source) == (2, 6, "train", full.name)
    assert pruned.sha256 == was.description.sha256 and pruned.scores == was.training.scores
    assert [len(slots) for slots in pruned.slots] == [2] * 3 and all(slots == sorted(slots) for slots in pruned.slots)
    assert adapter.description.prefix.shifted_by == 6 and adapter.description.prefix.projection is None
    for scores in (pruned.scores, training.scores):
        assert f"accuracy {100 * scores['accuracy']:.2f}" in out
    card = (made / "adapter/README.md").read_text()
    assert "It was pruned" in card and full.name in card and str(made / "adapter") in card
    assert "It was pruned" not in (full / "adapter/README.md").read_text()
    assert "the recorded scores exactly" in command("evaluate", f"run={made}")
    assert "no score of these" in command("evaluate", f"run={made}/adapter", "split=train")  # not the full one's
    assert json.loads(command("predict", f"run={made}", "text=it rained", "text_pair=it got wet"))["label"]
    both = spt.load(made, share=spt.load(full))
    assert list(both.stream([("it rained", "it got wet")])) == list(
        spt.load(made).stream([("it rained", "it got wet")])
    )
    command("prune", f"run={made}", "keep=1", f"output={tmp_path}/smaller")  # once more
    again = read_adapter(tmp_path / "smaller/adapter")
    assert again.description.prefix.shifted_by == 6 and again.run.pruned.source == "pruned_2"


def test_a_pruned_adapter_is_pushed_without_paths(full, command, tmp_path, monkeypatch):
    shutil.copytree(full / "adapter", tmp_path / "copied/mine")
    command("prune", f"run={tmp_path}/copied/mine", "keep=3")
    pushed, created = {}, {}

    def create_commit(self, repository, operations, commit_message):
        pushed.update((each.path_in_repo, each.path_or_fileobj) for each in operations)
        return "done"

    monkeypatch.setattr("spt.adapters.hub.HfApi.create_repo", lambda *_, **options: created.update(options))
    monkeypatch.setattr("spt.adapters.hub.HfApi.create_commit", create_commit)
    push_adapter(tmp_path / "copied/pruned_3", "user/small")
    assert created["private"] is False
    push_adapter(tmp_path / "copied/pruned_3", "user/small", private=True)
    assert created["private"] is True
    text = pushed["adapter.json"].decode() + pushed["README.md"].decode()
    assert "It was pruned" in text and "`mine`" in text and str(tmp_path) not in text


def test_an_adapter_on_the_hub_may_be_named_with_its_revision(full, monkeypatch):
    asked = []

    def snapshot_download(repository, revision, allow_patterns):
        asked.append((repository, revision))
        return full / "adapter"

    monkeypatch.setattr("spt.adapters.hub.snapshot_download", snapshot_download)
    assert fetch("user/small@v1.0") == fetch("user/small") == full / "adapter"
    assert asked == [("user/small", "v1.0"), ("user/small", None)]
