"""One run, from config to record: train, keep the best epoch, score further splits, write down what happened."""

import atexit
import gc
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from spt import distributed
from spt.adapters.format import load_adapter, read_adapter, save_adapter
from spt.adapters.model_card import write_card
from spt.console import Bar, logged, show_start
from spt.errors import SptError
from spt.files import written
from spt.hydra_targets import instantiate
from spt.modeling.freeze_parameters import backbone_size, missing_pooler, parameter_groups
from spt.modeling.pretrained_encoder import (
    backbone_settings,
    commit_of,
    tokenizer_fingerprint,
    weights_hash,
)
from spt.modeling.slot_cosine_and_rank import slot_similarity
from spt.numerics_version import NUMERICS
from spt.records.provenance import PeakMemory, origin, versions
from spt.records.run_folder import RunFolder
from spt.records.schema import CHECKPOINT, LOG
from spt.sweeps.gpu_assignment import take_one_gpu
from spt.tasks.baselines import baseline_scores
from spt.tasks.task import REQUIRED, data_fingerprint, describe_task
from spt.training import preemption, process_group
from spt.training.assemble import Assembled, assemble
from spt.training.checkpoint import Checkpoint, InterruptedEpoch, read_checkpoint, training_state
from spt.training.epoch import Epoch
from spt.training.loggers import Tracker
from spt.training.loop import Diverged
from spt.training.process_group import from_all, from_main
from spt.training.run_summary import describe_run
from spt.training.settings import precision, trainer_settings
from spt.training.trainer_schema import TrainerSettings

log = logging.getLogger(__name__)
Show = Callable[[dict[str, Any], str | None], None]


def run_experiment(
    config: DictConfig,
    overrides: Sequence[str] | None,
    show: Show = lambda record, note: None,
    group: str | None = None,
) -> dict[str, Any]:
    """Train what a resolved config describes, or read the record of the same run where it is finished.

    Args:
        config: of `spt.train`.
        overrides: those that `config` was composed from, in Hydra's syntax; None if the caller composed it.
        show: called with the record, and a note where the run was finished before, while the run's log is open.
        group: the sweep that the run belongs to, for the experiment tracker. A run of a sweep that another process is
            at work on, as when a search draws a point twice, waits for it.

    Returns:
        The run's record.

    Raises:
        Diverged: where its loss became infinite or NaN, once the record is written.
        SptError: where the config or what it names is wrong.
    """
    run = RunFolder(config, overrides)
    settings = trainer_settings(run.config["trainer"])
    if distributed.count() > 1:  # they agree on whether the run is finished
        process_group.join(settings)
    note: str | None = f"finished before in {run.folder} (force=true repeats it)"
    try:
        if (record := from_main(run.finished())) is not None:
            with logged():
                show(record, note)
        else:
            with preemption.handling_signals(), run.locked(wait=group is not None), logged(run.folder / LOG):
                if (record := from_main(run.finished())) is None:  # nor did another process finish it meanwhile
                    record, note = _train(run, config, settings, group), None
                    _return_gpu_memory()
                show(record, note)
    except BaseException:
        atexit.unregister(process_group.leave)  # which would wait for processes that are gone
        raise
    if record["status"] == "diverged":
        raise Diverged(record["warnings"][0])
    return record


def _train(run: RunFolder, config: DictConfig, settings: TrainerSettings, group: str | None) -> dict[str, Any]:
    """Assemble task, model, method and tracker, train, and write the record."""
    if not settings.use_cpu:
        take_one_gpu(config.runs_per_gpu)
    accelerator = process_group.join(settings)
    origin()
    run.start()
    made = assemble(config, run.config, settings, accelerator)
    tracker = instantiate(config.logger) if distributed.is_main() else Tracker()
    experiment = Experiment(run, made, tracker)
    show_start(describe_run(run, made.loop))
    tracker.start(run.config, run.folder, group, experiment.checkpoint is not None)
    try:
        record = run.write_record(experiment.fit())
    except BaseException:
        tracker.fail()
        raise
    tracker.finish(record, run.adapter)
    return from_main(record)


def _return_gpu_memory() -> None:
    """Give back what torch keeps of the GPU's memory for the next run: others that share the GPU may need it."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


class Experiment:
    """A training loop with what it leaves in the run's folder. It resumes where a checkpoint fits data and model."""

    def __init__(self, run: RunFolder, made: Assembled, tracker: Tracker) -> None:
        self.run, self.made, self.tracker = run, made, tracker
        self.loop = loop = made.loop
        self.task, self.splits, self.model = loop.task, loop.splits, loop.model
        self.metric = self.task.metrics[0]
        self.epochs: list[Epoch] = []
        # The seed makes the same prefixes again where the run resumes.
        prefixes = slot_similarity(self.model)
        self.at_start = [] if prefixes is None else [{"epoch": 0, "step": 0, "prefixes": prefixes}]
        model = backbone_settings(run.config["model"])
        self.revision = commit_of(model["name_or_path"], model.get("revision", "main"))
        self.weights = self.revision or weights_hash(model["name_or_path"])
        self.tokenizer = tokenizer_fingerprint(loop.tokenizer)
        self.fingerprints = {name: data_fingerprint({name: split.examples}) for name, split in self.splits.items()}
        self.checkpoint = self._resumable()

    def _resumable(self) -> Checkpoint | None:
        """The checkpoint that all processes can resume from; None where the run starts anew."""
        path = self.run.folder / CHECKPOINT
        if not from_main(path.exists() and not self.run.config["force"]):
            return None
        usable = None
        try:
            checkpoint = read_checkpoint(path, self.run.fingerprint)
            self._check(checkpoint)
            usable = checkpoint
        except SptError as error:
            log.warning("%s: the run starts anew", error)
        return usable if all(from_all(usable is not None)) else None

    @property
    def best(self) -> Epoch | None:
        """The best epoch so far, the first of equals."""
        return self._best_of(self.epochs)

    def _best_of(self, epochs: list[Epoch]) -> Epoch | None:
        return max(epochs, key=lambda epoch: epoch.dev.scores[self.metric], default=None)

    def fit(self) -> dict[str, Any]:
        """Train, keep the adapter of the best epoch, and score the splits beside train and validation with it.

        Returns:
            The results of the run, as its record holds them. `status` is "finished", or "diverged" where the loss
            became infinite or NaN.
        """
        self.started, self.memory = time.perf_counter(), PeakMemory(self.loop.settings.use_cpu)
        parameters, pooler = parameter_groups(self.model), missing_pooler(self.model)
        if self.checkpoint is None:
            self.run.clear()
            self.run.write_history(self.at_start)
        else:
            self.resume(self.checkpoint)
        for row in (*self.at_start, *(epoch.row for epoch in self.epochs)):
            self.tracker.epoch(row)
        diverged = None
        with Bar(self.metric, self.loop.max_steps) as bar:

            def on_epoch(epoch: Epoch) -> None:
                self.keep(epoch)
                self.tracker.epoch(epoch.row)
                bar.epoch(epoch.row, self.best is epoch)

            try:
                with preemption.deferred():
                    self.loop.run(on_epoch, self.write_checkpoint, bar.step, self.checkpoint)
            except Diverged as error:
                diverged = str(error)
        from_main(None)  # the main process has written the adapter
        best, last = self.best, self.epochs[-1] if self.epochs else None
        dev = {"best_dev": best, "last_dev": last}
        further = [name for name in self.splits if name not in REQUIRED]
        scores = {name: epoch and epoch.dev.scores for name, epoch in dev.items()} | dict.fromkeys([*further, "test"])
        outcomes = {name: epoch and epoch.dev.outcomes for name, epoch in dev.items()}
        if best is not None and diverged is None:
            load_adapter(self.model, self.run.adapter)
            for name in further:
                evaluation = self.loop.evaluate(name)
                scores[name], outcomes[name] = evaluation.scores, evaluation.outcomes
        self.run.write_outcomes(outcomes)
        collapsed = None if best is None else best.dev.only_class
        warnings = [diverged] if diverged else []
        if collapsed is not None:
            warnings.append(
                f"collapsed: at its best epoch the model gives {collapsed!r} to every dev example, "
                "so its score shows nothing learned"
            )
        spent = self._spent()
        return {
            "status": "diverged" if diverged else "finished",
            "metric": self.metric,
            "metrics": {name: of and of[self.metric] for name, of in scores.items()},
            "scores": scores,
            "baselines": self._baselines(),
            "best_epoch": best and best.epoch,
            "epochs": last.epoch if last else 0,
            "steps": self.loop.step,
            "collapsed": collapsed is not None,
            "warnings": warnings,
            "trainable_parameters": sum(parameters.values()),
            "trainable_by_group": parameters,
            "backbone_parameters": backbone_size(self.model),
            "missing_pooler": pooler,
            "model_revision": self.revision,
            "model_sha256": self.weights if self.revision is None else None,
            "adapter_bytes": sum(f.stat().st_size for f in self.run.adapter.glob("*")) if best else None,
            "resumed": spent["resumed"],
            "wall_seconds": spent["seconds"],
            "peak_memory_bytes": spent["peak_memory_bytes"],
            "data": {
                "revision": self.task.commit(),
                "fingerprint": self.made.data,
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

    def keep(self, epoch: Epoch) -> None:
        """Write an epoch's history row, the checkpoint after it, and its adapter where it is the best so far."""
        self.epochs.append(epoch)
        self.run.append_history(epoch.row)
        self.write_checkpoint()
        if self.best is epoch:
            self.write_adapter(epoch)

    def write_checkpoint(self, within: InterruptedEpoch | None = None) -> None:
        """Write the checkpoint after the last epoch, or where `within` is given, within the present one."""
        loop = self.loop
        state = training_state(self.model, loop.optimizer, loop.scheduler, loop.scaler)  # of all processes
        if not distributed.is_main():
            return
        kept = [epoch for epoch in (self.best, *self.epochs[-1:]) if epoch is not None]
        checkpoint = Checkpoint(
            fingerprint=self.run.fingerprint,
            data=self.fingerprints,
            tokenizer=self.tokenizer,
            weights=self.weights,
            numerics=NUMERICS,
            step=loop.step,
            within=within,
            history=[epoch.row for epoch in self.epochs],
            outcomes={str(epoch.epoch): epoch.dev.outcomes for epoch in kept},
            **self._spent(),
            **state,
        )
        with self.run.writing_checkpoint() as path:
            checkpoint.save(path)

    @distributed.main_only
    def write_adapter(self, epoch: Epoch) -> None:
        """Write what is trained as the adapter of `epoch`."""
        folder = self.run.adapter
        # A projection computes the prefixes in the run's precision: those were evaluated.
        with written(folder), precision(self.loop.settings, self.loop.device):
            save_adapter(self.model, folder, self._about(epoch))
            write_card(folder)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Bring model, history and adapter to where the interrupted run was."""
        self.epochs = _epochs(checkpoint)
        log.info(
            "resumes after epoch %d%s (interrupted before; force=true starts anew)",
            len(self.epochs),
            f" and {checkpoint.step - checkpoint.epoch_start} steps" if checkpoint.within else "",
        )
        checkpoint.load_weights(self.model)
        self.run.write_history([*self.at_start, *checkpoint.history])
        if distributed.is_main() and self._holds_best(checkpoint, self.epochs):
            shutil.rmtree(self.run.adapter, ignore_errors=True)  # it may be incomplete
            self.write_adapter(self.epochs[-1])

    def _check(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint that the run cannot resume from."""
        if checkpoint.data != self.fingerprints:
            raise SptError("the interrupted run had other data")
        if checkpoint.tokenizer != self.tokenizer:
            raise SptError("the interrupted run had another tokenizer")
        if checkpoint.weights != self.weights:
            raise SptError("the interrupted run had other weights of the base model")
        if checkpoint.numerics != NUMERICS:
            raise SptError(f"the interrupted run had the numerics of version {checkpoint.numerics}, not {NUMERICS}")
        if not checkpoint.fits(self.model):
            raise SptError("the interrupted run trained other parameters")
        epochs = _epochs(checkpoint)
        best = self._best_of(epochs)
        if best is not None and not self._holds_best(checkpoint, epochs):
            kept = read_adapter(self.run.adapter).training.epoch
            if kept != best.epoch:
                raise SptError(f"{self.run.adapter} is of epoch {kept}, not of the best one, {best.epoch}")

    def _holds_best(self, checkpoint: Checkpoint, epochs: list[Epoch]) -> bool:
        """Whether the checkpoint holds the weights of the best of its epochs: it was written at that epoch's end."""
        return bool(epochs) and checkpoint.within is None and self._best_of(epochs) is epochs[-1]

    def _spent(self) -> dict[str, Any]:
        """Time and memory that the run has taken, before it was interrupted included."""
        before = self.checkpoint
        return {
            "resumed": before.resumed + 1 if before else 0,
            "seconds": time.perf_counter() - self.started + (before.seconds if before else 0.0),
            "peak_memory_bytes": max(self.memory.bytes(), before.peak_memory_bytes if before else 0),
        }

    def _baselines(self) -> dict[str, dict[str, float]]:
        train = self.splits["train"].examples
        others = {name: split.examples for name, split in self.splits.items() if name != "train"}
        return {name: baseline_scores(self.task, train, examples) for name, examples in others.items()}

    def _about(self, epoch: Epoch) -> dict[str, Any]:
        """What an adapter says of itself: enough to use it, and to train it again."""
        config = self.run.config
        return {
            "task": describe_task(self.task),
            "input": self.task.example_input(),
            "model": config["model"] | ({"revision": self.revision} if self.revision else {}),
            "tokenizer": self.tokenizer,
            "method": config["method"],
            **({"needs_method": True} if self.made.needs_method else {}),
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


def _epochs(checkpoint: Checkpoint) -> list[Epoch]:
    return [Epoch.from_row(row, checkpoint.outcomes.get(str(row["epoch"]), [])) for row in checkpoint.history]
