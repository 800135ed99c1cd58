"""The first lines that a run prints: its task, model, method, training and trainable parameters."""

from typing import Any

from spt import distributed
from spt.modeling.freeze_parameters import backbone_size, missing_pooler, parameter_groups
from spt.recipes import recipes
from spt.records.provenance import hardware
from spt.records.run_folder import RunFolder
from spt.tasks.model_inputs import Split
from spt.training.loop import TrainingLoop

LABELS = 10  # as many as a line has room for


def describe_run(run: RunFolder, loop: TrainingLoop) -> dict[str, str]:
    """Facts about a run, by name."""
    task, model = loop.task, loop.model
    config, trainer = run.config, run.config["trainer"]
    method = {name: value for name, value in config["method"].items() if not name.startswith("_") and name != "name"}
    groups = parameter_groups(model)
    trainable = sum(groups.values())
    whole = backbone_size(model) + sum(groups[name] for name in ("prefix", "lora", "head"))
    labels = ", ".join(task.labels[:LABELS]) + (", ..." if len(task.labels) > LABELS else "")
    classes = "" if task.task_type == "regression" else f", {len(task.classes)} classes ({labels})"
    epochs = f"{trainer['num_train_epochs']} epochs" if trainer["max_steps"] == -1 else f"{trainer['max_steps']} steps"
    processes = f" on each of {distributed.count()} processes" if distributed.count() > 1 else ""
    state = missing_pooler(model)
    pooler = "" if state is None else f", its pooler {state}, from random numbers: the checkpoint has none"
    return {
        "task": f"{task.name}, {task.task_type}{classes}, from {task.data_dir or (task.hub and task.hub['path'])}",
        "splits": ", ".join(_describe_split(name, split) for name, split in loop.splits.items()),
        "model": f"{config['model']['name']} ({config['model']['name_or_path']}){pooler}",
        "method": " ".join([config["method"]["name"], *(f"{name}={value}" for name, value in method.items())]),
        "recipe": _describe_recipe(config),
        "training": (
            f"{epochs}, batches of {trainer['per_device_train_batch_size']} x "
            f"{trainer['gradient_accumulation_steps']}{processes}, learning rate {trainer['learning_rate']} "
            f"({trainer['lr_scheduler_type']}), seed {config['seed']}"
        ),
        "device": hardware(loop.device.type == "cpu")["accelerator"] or loop.device.type,
        "trainable": ", ".join(f"{name} {count:,}" for name, count in groups.items())
        + f": {trainable:,} of {whole:,} ({trainable / whole:.3%})",
        "folder": str(run.folder),
    }


def _describe_split(name: str, split: Split) -> str:
    notes = []
    if split.truncated:
        notes.append(f"{split.truncated} truncated")
    if split.lost_words:
        notes.append(f"{split.lost_words} words without a token")
    return f"{len(split.examples)} {name}" + (f" ({', '.join(notes)})" if notes else "")


def _describe_recipe(config: dict[str, Any]) -> str:
    recipe = config["recipe"]
    if recipe is None:
        cell = "/".join(config[group]["name"] for group in ("method", "task", "model"))
        why = "left out" if cell in recipes() else "none for this cell"
        return f"{why}: the defaults of conf/method and conf/trainer apply"
    note = f" ({recipe['note']})" if recipe["note"] else ""
    return f"{recipe['name']}, {recipe['source']}{note}"
