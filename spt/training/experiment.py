"""A run between its inputs and its record: train, keep the best epoch, score further splits, say what happened."""

import logging
import math
import shutil
import time
from dataclasses import dataclass
from typing import Any

from spt import distributed as processes
from spt.adapters.format import load_adapter, read_adapter, save_adapter
from spt.adapters.model_card import write_card
from spt.console import Bar
from spt.errors import SptError
from spt.files import flush, written
from spt.methods import Penalty
from spt.modeling.pretrained_encoder import commit_of, weights_hash
from spt.modeling.task_model import TaskModel
from spt.modeling.trainable_parameters import backbone_size, parameter_groups
from spt.recipes import recipes
from spt.records.provenance import PeakMemory, versions
from spt.records.run_folder import Run
from spt.tasks.base import REQUIRED, Split, Task, data_fingerprint, describe_task
from spt.training import preemption as preemption
from spt.training.checkpoint import Checkpoint
from spt.training.loggers import RunFolderOnly
from spt.training.loop import Diverged, Epoch, TaskTrainer, training_arguments

log = logging.getLogger(__name__)


@dataclass
class Experiment:
    """All that a run is made of. It goes on from `checkpoint`, where that is of the same data and parameters."""

    run: Run
    task: Task
    splits: dict[str, Split]
    model: TaskModel
    tokenizer: Any
    penalty: Penalty | None
    tracker: RunFolderOnly
    checkpoint: Checkpoint | None = None

    def __post_init__(self) -> None:
        model = self.run.config["model"]
        self.revision = commit_of(model["name_or_path"], model["revision"])
        self.fingerprints = {name: data_fingerprint({name: split.examples}) for name, split in self.splits.items()}
        if self.checkpoint is not None:
            try:
                self._check(self.checkpoint)
            except SptError as error:
                log.warning("%s: the run starts anew", error)
                self.checkpoint = None

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
        config = self.run.config
        model = config["model"]
        arguments, schedule = training_arguments(config["trainer"], config["seed"], self.run.folder)
        if self.checkpoint is None:
            self.run.clear()
        resume, epochs = self.checkpoint, self.take_up()

        def spent() -> dict[str, Any]:
            return {
                "resumed": 0 if resume is None else resume.resumed + 1,
                "seconds": time.perf_counter() - started + (resume.seconds if resume else 0),
                "peak_memory_bytes": max(memory.bytes(), resume.peak_memory_bytes if resume else 0),
            }

        def keep(within: dict[str, Any] | None = None) -> None:
            facts, tensors = trainer.parts.state()
            self.run.keep(
                Checkpoint(
                    fingerprint=self.run.fingerprint,
                    data=self.fingerprints,
                    step=trainer.state.global_step,
                    max_steps=trainer.state.max_steps,
                    within=within,
                    history=[epoch.row for epoch in epochs],
                    outcomes={str(kept.epoch): kept.dev.outcomes for kept in (self.best(epochs), *epochs[-1:]) if kept},
                    **spent(),
                    facts=facts,
                    tensors=tensors,
                )
            )

        def on_epoch(epoch: Epoch) -> None:
            epochs.append(epoch)
            self.run.append(epoch.row)
            keep()
            is_best = self.best(epochs) is epoch
            if is_best:
                self.keep_adapter(epoch)
            self.tracker.epoch(epoch.row)
            bar.epoch(epoch.row, is_best)

        per_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * processes.count()
        steps = math.ceil(arguments.num_train_epochs * math.ceil(len(self.splits["train"].inputs) / per_step))
        with Bar(self.metric, arguments.max_steps if arguments.max_steps > 0 else steps) as bar:
            trainer = TaskTrainer(
                self.model,
                self.task,
                self.splits,
                self.tokenizer,
                arguments,
                schedule,
                self.penalty,
                lambda step, steps, loss: bar.step(step, loss),
                on_epoch,
                keep,
                resume,
            )
            diverged = None
            try:
                with preemption.deferred():
                    trainer.train()
            except Diverged as error:
                diverged = str(error)
        best, last = self.best(epochs), epochs[-1] if epochs else None
        further = [name for name in self.splits if name not in REQUIRED]
        scores = {
            "best_dev": best and best.dev.scores,
            "last_dev": last and last.dev.scores,
            **dict.fromkeys([*further, "test"]),
        }
        dev = {"best_dev": best, "last_dev": last}
        outcomes = {name: epoch.dev.outcomes if epoch else None for name, epoch in dev.items()}
        processes.from_main(None)  # until it has written the adapter
        if best is not None and further and diverged is None:
            load_adapter(self.model, self.run.adapter)
            found = {name: trainer.examine(self.splits[name]) for name in further}
            scores |= {name: evaluation.scores for name, evaluation in found.items()}
            outcomes |= {name: evaluation.outcomes for name, evaluation in found.items()}
        self.run.keep_outcomes(outcomes)
        collapsed = None if best is None else best.dev.only_class
        warnings = [diverged] if diverged else []
        if collapsed is not None:
            warnings.append(
                f"collapsed: at its best epoch the model gives {collapsed!r} to every dev example, "
                "so its score shows nothing learned"
            )
        took = spent()
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
            "model_sha256": weights_hash(model["name_or_path"]),
            "adapter_bytes": sum(f.stat().st_size for f in self.run.adapter.glob("*")) if best else None,
            "resumed": took["resumed"],
            "wall_seconds": took["seconds"],
            "peak_memory_bytes": took["peak_memory_bytes"],
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

    def best(self, epochs: list[Epoch]) -> Epoch | None:
        """The best epoch, the first of equals."""
        return max(epochs, key=lambda epoch: epoch.dev.scores[self.metric], default=None)

    @processes.main_only
    def keep_adapter(self, epoch: Epoch) -> None:
        """Save what is trained as the adapter of `epoch`."""
        with written(self.run.adapter):
            save_adapter(self.model, self.run.adapter, self.about(epoch))
            write_card(self.run.adapter)
            for path in (*self.run.adapter.iterdir(), self.run.adapter):
                flush(path)

    def take_up(self) -> list[Epoch]:
        """Bring model, adapter and tracker to where an interrupted run was, and return its epochs, none without."""
        if self.checkpoint is None:
            return []
        outcomes = self.checkpoint.outcomes
        epochs = [Epoch.from_row(row, outcomes.get(str(row["epoch"]), [])) for row in self.checkpoint.history]
        log.info(
            "goes on after epoch %d%s (interrupted before; force=true starts anew)",
            len(epochs),
            f" and {self.checkpoint.step - self.checkpoint.begin} steps" if self.checkpoint.within else "",
        )
        self.checkpoint.load_weights(self.model)
        if processes.is_main() and self._has_weights_of_best(self.checkpoint, epochs):
            shutil.rmtree(self.run.adapter, ignore_errors=True)  # it may not have become whole
            self.keep_adapter(epochs[-1])
        for epoch in epochs:
            self.tracker.epoch(epoch.row)
        return epochs

    def _check(self, checkpoint: Checkpoint) -> None:
        """Whether the run can go on from `checkpoint`."""
        if checkpoint.data != self.fingerprints:
            raise SptError("the interrupted run had other data")
        if not checkpoint.fits(self.model):
            raise SptError("the interrupted run trained other parameters")
        try:
            epochs = [Epoch.from_row(row, []) for row in checkpoint.history]
            best = self.best(epochs)
        except (AttributeError, KeyError, TypeError) as error:
            raise SptError(f"the interrupted run's history is damaged ({error!r})") from error
        if best is not None and not self._has_weights_of_best(checkpoint, epochs):
            kept = read_adapter(self.run.adapter).about.get("training", {}).get("epoch")
            if kept != best.epoch:
                raise SptError(f"{self.run.adapter} is of epoch {kept}, not of the best one, {best.epoch}")

    def _has_weights_of_best(self, checkpoint: Checkpoint, epochs: list[Epoch]) -> bool:
        """Whether the checkpoint is of the end of the best epoch."""
        return bool(epochs) and checkpoint.within is None and self.best(epochs) is epochs[-1]

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
