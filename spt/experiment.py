"""A run between its inputs and its record: train, keep the best epoch, score further splits, say what happened."""

import time
from dataclasses import dataclass
from typing import Any

from spt import processes
from spt.adapter import load_adapter, save_adapter
from spt.backbone import commit_of
from spt.card import write_card
from spt.console import Bar
from spt.loggers import RunFolderOnly
from spt.lora import is_lora
from spt.methods import Penalty
from spt.model import TaskModel, is_head
from spt.prefix import is_prefix
from spt.published import recipes
from spt.record import PeakMemory, Run, versions
from spt.tasks import REQUIRED, Split, Task, data_fingerprint, describe_task
from spt.training import Diverged, Epoch, TaskTrainer, training_arguments


@dataclass
class Experiment:
    """All that a run is made of."""

    run: Run
    task: Task
    splits: dict[str, Split]
    model: TaskModel
    tokenizer: Any
    penalty: Penalty | None
    tracker: RunFolderOnly

    def __post_init__(self) -> None:
        model = self.run.config["model"]
        self.revision = commit_of(model["name_or_path"], model["revision"])
        self.fingerprints = {name: data_fingerprint({name: split.examples}) for name, split in self.splits.items()}

    @property
    def metric(self) -> str:
        """The task's headline metric."""
        return self.task.metrics[0]

    def fit(self) -> dict[str, Any]:
        """Train, evaluating after every epoch; keep the adapter of the best epoch (the first of equals).

        Splits beside train and validation (test, ...) are scored once, at that epoch.

        Returns:
            The run's results, as the record holds them. `status` is "finished", or "diverged" where the loss left the
            finite numbers.
        """
        started, memory = time.perf_counter(), PeakMemory()
        parameters = parameter_groups(self.model)
        best: Epoch | None = None
        last: Epoch | None = None
        config = self.run.config
        arguments, schedule = training_arguments(config["trainer"], config["seed"], self.run.folder)

        def on_epoch(epoch: Epoch) -> None:
            nonlocal best, last
            last = epoch
            is_best = best is None or epoch.dev.scores[self.metric] > best.dev.scores[self.metric]
            if is_best:
                best = epoch
            if is_best and processes.is_main():
                save_adapter(self.model, self.run.adapter, self.about(epoch))
                write_card(self.run.adapter)
            self.run.append(epoch.row)
            self.tracker.epoch(epoch.row)
            bar.epoch(epoch.row, is_best)

        with Bar(self.metric) as bar:
            trainer = TaskTrainer(
                self.model,
                self.task,
                self.splits,
                self.tokenizer,
                arguments,
                schedule,
                self.penalty,
                bar.step,
                on_epoch,
            )
            diverged = None
            try:
                trainer.train()
            except Diverged as error:
                diverged = str(error)
        further = [name for name in self.splits if name not in REQUIRED]
        scores = {
            "best_dev": best and best.dev.scores,
            "last_dev": last and last.dev.scores,
            **dict.fromkeys([*further, "test"]),
        }
        processes.from_main(None)  # until it has written the adapter
        if best is not None and further and diverged is None:
            load_adapter(self.model, self.run.adapter)
            scores |= {name: trainer.examine(self.splits[name]).scores for name in further}
        collapsed = None if best is None else best.only_class
        warnings = [diverged] if diverged else []
        if collapsed is not None:
            warnings.append(
                f"collapsed: at its best epoch the model gives {collapsed!r} to every dev example, "
                "so its score shows nothing learned"
            )
        return {
            "status": "diverged" if diverged else "finished",
            "metric": self.metric,
            "metrics": {name: found and found[self.metric] for name, found in scores.items()},
            "scores": scores,
            "best_epoch": best and best.epoch,
            "epochs": last.epoch if last else 0,
            "steps": trainer.state.global_step,
            "collapsed": collapsed is not None,
            "warnings": warnings,
            "trainable_parameters": sum(parameters.values()),
            "trainable_by_group": parameters,
            "backbone_parameters": backbone_size(self.model),
            "model_revision": self.revision,
            "adapter_bytes": sum(f.stat().st_size for f in self.run.adapter.glob("*")) if best else None,
            "wall_seconds": time.perf_counter() - started,
            "peak_memory_bytes": memory.bytes(),
            "data": {
                "revision": self.task.commit(),
                "fingerprint": data_fingerprint({name: split.examples for name, split in self.splits.items()}),
                "splits": {
                    name: {
                        "examples": len(split.examples),
                        "truncated": split.truncated,
                        "lost_words": split.lost_words,
                    }
                    for name, split in self.splits.items()
                },
            },
        }

    def about(self, epoch: Epoch) -> dict[str, Any]:
        """What the adapter of an epoch says of itself: enough to use it, and to make it again."""
        config = self.run.config
        return {
            "task": describe_task(self.task),
            "input": self.task.example_input(),
            "model": config["model"] | ({"revision": self.revision} if self.revision else {}),
            "method": config["method"],
            "training": {
                "command": self.run.command,
                "seed": config["seed"],
                "recipe": config["recipe"],
                "trainer": config["trainer"],
                "epoch": epoch.epoch,
                "metric": self.metric,
                "scores": epoch.dev.scores,
                "data": self.fingerprints,
                "examples": {name: len(split.examples) for name, split in self.splits.items()},
                "from_hub": self.task.data_dir is None,
                "versions": versions(),
            },
        }

    def facts(self) -> dict[str, str]:
        """What the run is, for people."""
        config, task = self.run.config, self.task
        method = {k: v for k, v in config["method"].items() if not k.startswith("_") and k != "name"}
        trainer = config["trainer"]
        groups = parameter_groups(self.model)
        whole = backbone_size(self.model) + sum(groups[name] for name in ("prefix", "lora", "head"))
        classes = "" if task.task_type == "regression" else f", {len(task.classes)} classes ({_names(task.labels)})"
        source = task.data_dir or (task.hub and task.hub["path"])
        return {
            "task": f"{task.name}, {task.task_type}{classes}, from {source}",
            "splits": ", ".join(_describe(name, split) for name, split in self.splits.items()),
            "model": f"{config['model']['name']} ({config['model']['name_or_path']})",
            "method": " ".join([config["method"]["name"], *(f"{name}={value}" for name, value in method.items())]),
            "recipe": _describe_recipe(config),
            "training": (
                f"{_length(trainer)}, batches of {trainer['per_device_train_batch_size']} x "
                f"{trainer['gradient_accumulation_steps']}{_processes()}, learning rate {trainer['learning_rate']} "
                f"({trainer['lr_scheduler_type']}), seed {config['seed']}"
            ),
            "trainable": ", ".join(f"{name} {count:,}" for name, count in groups.items())
            + f": {sum(groups.values()):,} of {whole:,} ({sum(groups.values()) / whole:.3%})",
            "folder": str(self.run.folder),
        }


def _names(labels: list[str]) -> str:
    """Labels, as far as a line has room for them."""
    return ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")


def _processes() -> str:
    return f" on each of {processes.count()} processes" if processes.count() > 1 else ""


def _length(trainer: dict[str, Any]) -> str:
    return f"{trainer['max_steps']} steps" if trainer["max_steps"] != -1 else f"{trainer['num_train_epochs']} epochs"


def parameter_groups(model: TaskModel) -> dict[str, int]:
    """How many numbers train: in the prefixes (or what computes them), in LoRA, in the head, in the backbone."""
    groups = {"prefix": 0, "lora": 0, "head": 0, "backbone": 0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_group(name)] += parameter.numel()
    return groups


def backbone_size(model: TaskModel) -> int:
    """How many numbers the backbone has, trained or not."""
    return sum(p.numel() for name, p in model.named_parameters() if _group(name) == "backbone")


def _group(name: str) -> str:
    if is_head(name):
        return "head"
    if is_lora(name):
        return "lora"
    return "prefix" if is_prefix(name) else "backbone"


def _describe(name: str, split: Split) -> str:
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
