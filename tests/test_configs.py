"""Every file of conf composes, and its target can be instantiated. Recipes equal the published ones exactly."""

import copy
import csv
import functools
import itertools
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import spt
from spt.methods import Penalty
from spt.modeling.freeze_parameters import parameter_groups
from spt.paths import CONF
from spt.records.fingerprint import fingerprint
from spt.training.settings import trainer_settings
from tests.conftest import REPO, tiny_encoder


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


def composed(*overrides: str) -> DictConfig:
    """The config of `spt.train` with these overrides; a copy, because composing takes about 60 ms."""
    return copy.deepcopy(_composed(*overrides))


PUBLISHED = list(csv.DictReader((REPO / "results/reference/published_recipes.csv").open(encoding="utf-8")))
CELLS = [f"{row['method']}/{row['task']}/{row['model']}" for row in PUBLISHED]


def test_the_shipped_groups():
    assert set(options("task")) == set(
        "boolq cb copa multirc record rte wic wsc cola sst2 mrpc qqp stsb mnli qnli wnli "
        "conll03 conll04 ontonotes wnut17 custom demo_pair demo_choice demo_ner".split()
    )
    prefixes = {"prefix_tuning", "p_tuning_v2", "spt", "spt_sl"}
    assert set(options("method")) == prefixes | {"fine_tuning", "linear_probe", "bitfit", "lora"}
    assert {"bert-base-cased", "bert-large-uncased", "roberta-large", "minilm", "demo"} <= set(options("model"))


@pytest.mark.parametrize("name", sorted({*options("task")} - {"custom"}))  # tests/tasks/test_custom.py
def test_tasks(name):
    task = instantiate(composed(f"task={name}").task, _convert_="all")
    assert task.name == name and (len(task.classes) >= 2 or task.task_type == "regression")
    assert list(task.files) == ["train", "validation", *(["validation_mismatched"] if name == "mnli" else []), "test"]
    assert set(task.sizes) <= set(task.files)
    assert task.hub is not None or task.data_dir is not None or name == "ontonotes"


@pytest.mark.parametrize("name", options("model"))
def test_models(name):
    model = composed(f"model={name}").model
    assert model.name == name and model.pooling in ("pooler", "first", "mean", "last")


@pytest.mark.parametrize(("method", "task"), itertools.product(options("method"), ["rte", "stsb", "copa", "conll04"]))
def test_methods_on_every_shape(method, task):
    config = composed(f"method={method}", f"task={task}")
    shape = instantiate(config.task, _convert_="all")
    model = spt.TaskModel(tiny_encoder(), shape.task_type, len(shape.classes))
    penalty: Penalty | None = instantiate(config.method, model, _convert_="all")
    assert (penalty is not None) == (method == "spt_sl")
    if penalty is not None:
        assert penalty(model).item() == pytest.approx(config.method.sl_weight * spt.selective_loss(model).item())
    prefixed = {"prefix_tuning", "p_tuning_v2", "spt", "spt_sl"}
    assert (spt.attached(model) is not None) == (method in prefixed)
    groups = {group for group, count in parameter_groups(model).items() if count}
    trained = {"linear_probe": set(), "lora": {"lora"}, "bitfit": {"backbone"}, "fine_tuning": {"backbone"}}
    assert groups == {"head"} | trained.get(method, {"prefix"})
    settings = trainer_settings(OmegaConf.to_container(config.trainer))
    assert settings.lr_scheduler_type == ("exponential" if task == "conll04" else "linear")
    assert (settings.adam_beta1, settings.adam_beta2, settings.adam_epsilon) == (0.9, 0.999, 1e-8)
    assert (settings.weight_decay, settings.max_grad_norm, settings.warmup_steps) == (0, 1.0, 0)


@pytest.mark.parametrize("name", options("logger"))
def test_loggers(name):
    instantiate(composed(f"logger={name}").logger)


def test_the_published_recipes_are_in_conf_and_no_others():
    shipped = {
        str(path.relative_to(CONF / "recipe").with_suffix(""))
        for method in ("spt_sl", "prefix_tuning")
        for path in (CONF / "recipe" / method).rglob("*.yaml")
    }
    assert shipped == set(CELLS) and len(CELLS) == 34


@pytest.mark.parametrize("row", PUBLISHED, ids=CELLS)
def test_a_recipe_is_chosen_by_its_cell_and_equals_the_published_one(row):
    cell = f"{row['method']}/{row['task']}/{row['model']}"
    config = composed(f"method={row['method']}", f"task={row['task']}", f"model={row['model']}")
    assert (config.recipe.name, config.recipe.source) == (cell, row["source"])
    assert (config.recipe.note or "") == row["note"]
    trainer, method = config.trainer, config.method
    assert trainer.per_device_train_batch_size == int(row["batch_size"])
    assert trainer.gradient_accumulation_steps == int(row["gradient_accumulation"])
    assert trainer.learning_rate == float(row["learning_rate"])
    assert trainer.num_train_epochs == int(row["epochs"])
    assert (
        trainer.lr_scheduler_type == {"linear to 0": "linear", "exponential 0.95/epoch": "exponential"}[row["schedule"]]
    )
    assert config.seed == int(row["seed"])
    reads_missing_pooler = row["model"] == "roberta-large" and row["task"] not in ("conll03", "conll04", "ontonotes")
    assert config.model.missing_pooler == ("frozen" if reads_missing_pooler else None)
    assert method.prefix_length == int(row["prefix_length"])
    assert config.task.max_length == (int(row["max_length"]) if row["max_length"].isdigit() else None)
    if row["template"]:
        assert config.task.template == int(row["template"])
    if row["method"] == "spt_sl":
        for name in ("alpha", "sl_weight", "key_dropout", "score_dropout"):
            assert method[name] == float(row[name])
        assert row["hidden_dropout"] == "0.1" and config.model.config == {}
    else:
        assert method.key_dropout == method.value_dropout == float(row["hidden_dropout"])
        assert method.shift_positions == (row["shift_positions"] == "yes")
        assert (method.projection is not None) == (row["prefix_projection"] == "yes")
        backbone = config.model.config.get("hidden_dropout_prob", 0.1)
        assert backbone == float(row["hidden_dropout"])


def test_p_tuning_v2_takes_the_recipes_of_prefix_tuning():
    """All of its recipes have the same three lines, so one of each task is enough."""
    cells = {row["task"]: row for row in PUBLISHED if row["method"] == "prefix_tuning"}
    for cell in cells.values():
        chosen = (f"task={cell['task']}", f"model={cell['model']}")
        p_tuning, borrowed = composed("method=p_tuning_v2", *chosen), composed("method=prefix_tuning", *chosen)
        assert p_tuning.method.name == "p_tuning_v2"
        p_tuning.method.name = borrowed.method.name
        assert p_tuning == borrowed and p_tuning.recipe.name == f"prefix_tuning/{cell['task']}/{cell['model']}"


def test_a_recipe_can_be_overridden_left_out_or_taken_from_another_cell():
    cell = ("method=spt_sl", "task=rte", "model=bert-base-cased")
    assert composed(*cell, "trainer.learning_rate=1e-3").trainer.learning_rate == 1e-3
    assert composed(*cell, "recipe=none").recipe is None
    assert composed(*cell, "recipe=none").method.prefix_length == 20
    borrowed = composed("method=spt", "task=rte", "recipe=spt_sl/rte/bert-base-cased", "method.sl_weight=0")
    assert (borrowed.method.name, borrowed.method.prefix_length, borrowed.method.sl_weight) == ("spt", 8, 0)
    assert composed("method=spt", "task=rte").recipe is None


def test_only_settings_that_can_change_a_result_change_the_fingerprint():
    def of(*overrides):
        return fingerprint(OmegaConf.to_container(composed(*overrides), resolve=True))

    assert of() == of("output_dir=elsewhere", "force=true", "logger=wandb", "trainer.dataloader_num_workers=2")
    assert of() == of("+trainer.ddp_timeout=60")
    assert len({of(), of("seed=12"), of("method.alpha=4"), of("task.max_length=64"), of("method=spt_sl")}) == 5


def test_no_config_sets_the_mode_of_hydra():
    """`tests.quick_configs` counts on it."""
    assert not [path for path in CONF.glob("**/*.yaml") if re.search(r"^\s+mode:", path.read_text(), re.M)]


def test_hub_data_is_pinned_to_a_commit():
    hubs = {name: composed(f"task={name}").task.get("hub") for name in options("task")}
    floating = {name for name, hub in hubs.items() if hub and not re.fullmatch("[0-9a-f]{40}", hub.revision)}
    assert floating == {"conll04"}  # its commit is not known


def test_published_numbers_are_readable():
    from spt.report.published_numbers import published

    rows = published("rte", "bert-base-cased", "spt_sl")
    assert [row["value"] for row in rows] == ["74.37", "68.59"]
    assert published("rte", "demo", "spt") == []
