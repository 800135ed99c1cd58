"""The training loop: transformers' Trainer with the method's penalty, the task's scores and the authors' schedules."""

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler
from transformers import (
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import SchedulerType

from spt import distributed as processes
from spt.errors import SptError, is_count, is_number, is_whole, nearest
from spt.methods import Penalty
from spt.modeling.task_model import TaskModel
from spt.tasks.base import Split, Task
from spt.tasks.metrics import Scores
from spt.training import preemption as preemption
from spt.training.checkpoint import Checkpoint, Parts, generators, set_generators

EXPONENTIAL = "exponential"

# The settings of Trainer that a run takes. The others have no effect on it, or are among OURS.
SETTINGS = frozenset(
    "learning_rate num_train_epochs max_steps per_device_train_batch_size per_device_eval_batch_size "
    "gradient_accumulation_steps lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args adam_beta1 "
    "adam_beta2 adam_epsilon weight_decay max_grad_norm train_sampling_strategy bf16 fp16 tf32 bf16_full_eval "
    "fp16_full_eval use_cpu full_determinism torch_compile torch_compile_backend torch_compile_mode "
    "activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs "
    "dataloader_num_workers dataloader_prefetch_factor dataloader_pin_memory "
    "torch_empty_cache_steps eval_accumulation_steps ddp_backend ddp_find_unused_parameters ddp_timeout".split()
)

# What a run decides itself: an evaluation an epoch, files and logs by spt.record and spt.loggers.
OURS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "remove_unused_columns": False,
}

IS_A: dict[type, Callable[[Any], bool]] = {int: is_whole, float: is_number, bool: lambda value: isinstance(value, bool)}

NAMED_VALUES = "[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*"

# What the value of a setting must be, beside its type.
Bound = tuple[Callable[[Any], bool], str]

ABOVE_0: Bound = (lambda value: 0 < value <= torch.finfo(torch.float32).max, "a finite number above 0 (in float32)")

COUNT: Bound = (is_count, "a whole number of at least 1")

BETA: Bound = (lambda value: 0 <= value < 1, "at least 0 and below 1")

NOT_NEGATIVE: Bound = (lambda value: not is_number(value) or 0 <= value < math.inf, "a finite number of at least 0")

BOUNDS: dict[str, Bound] = {
    **dict.fromkeys(("learning_rate", "num_train_epochs"), ABOVE_0),
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"), COUNT
    ),
    **dict.fromkeys(("eval_accumulation_steps", "torch_empty_cache_steps", "dataloader_prefetch_factor"), COUNT),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), BETA),
    "max_steps": (lambda value: value >= 1 or value == -1, "at least 1, or -1 for num_train_epochs"),
    "optim_args": (lambda value: re.fullmatch(NAMED_VALUES, str(value)) is not None, "name=value,name=value"),
}

CHECK_EVERY = 10  # steps between looks at the loss, each of which waits for the device


class Diverged(SptError):
    """The loss left the finite numbers."""


@dataclass(frozen=True)
class Evaluation:
    """One look at a split: its mean loss (with the penalty, as published), the penalty, all scores, each example's
    outcome (see `Task.outcomes`), and the one class that all examples were given, if so."""

    loss: float
    penalty: float
    scores: Scores
    outcomes: list
    only_class: str | None


@dataclass(frozen=True)
class Epoch:
    """What an epoch left.

    `learning_rate` is its last step's, `dev` its evaluation.
    """

    epoch: int
    step: int
    train_loss: float
    learning_rate: float
    dev: Evaluation
    seconds: float

    @property
    def penalty(self) -> float:
        """What the method adds to the task loss."""
        return self.dev.penalty

    @classmethod
    def from_row(cls, row: dict[str, Any], outcomes: list) -> "Epoch":
        """An epoch again, from its line of the history and how its dev examples came out."""
        kept = {name: row[name] for name in ("epoch", "step", "train_loss", "learning_rate", "seconds")}
        scores = {n.removeprefix("dev_"): value for n, value in row.items() if n.startswith("dev_") and n != "dev_loss"}
        return cls(**kept, dev=Evaluation(row["dev_loss"], row["penalty"], scores, outcomes, row["only_class"]))

    @property
    def row(self) -> dict[str, Any]:
        """A line of the history."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "train_loss": self.train_loss,
            "learning_rate": self.learning_rate,
            "penalty": self.penalty,
            "dev_loss": self.dev.loss,
            **{f"dev_{name}": value for name, value in self.dev.scores.items()},
            "only_class": self.dev.only_class,
            "seconds": self.seconds,
        }


class TaskTrainer(Trainer):
    """transformers' Trainer on a task. Without a train split it only examines.

    Args:
        on_step: called with (step, steps in all, mean training loss of the epoch) every few steps.
        on_epoch: called with each Epoch, after its evaluation on the validation split.
        on_stop: called where the machine is wanted back within an epoch, with what is known of the epoch.
        resume: where to go on, with its weights in the model already.
    """

    def __init__(
        self,
        model: TaskModel,
        task: Task,
        splits: dict[str, Split],
        tokenizer: PreTrainedTokenizerBase,
        args: TrainingArguments,
        schedule: tuple[str, dict[str, Any]],
        penalty: Penalty | None = None,
        on_step: Callable[[int, int, float], None] = lambda *_: None,
        on_epoch: Callable[[Epoch], None] = lambda _: None,
        on_stop: Callable[[dict[str, Any]], None] = lambda _: None,
        resume: Checkpoint | None = None,
    ):
        self.task, self.splits, self.penalty = task, splits, penalty
        self.schedule = schedule
        self.on_epoch, self.on_stop, self.resume = on_epoch, on_stop, resume
        self.order = torch.Generator()
        self.began: dict[str, Tensor] = {}
        self.behind = False  # whether the random state is still that of the begin of the epoch to go on with
        self.task_model = model
        self.loss_sum, self.loss_count = torch.zeros(()), 0
        self.last_rate = args.learning_rate
        self.epoch_number, self.epoch_started = 1, time.perf_counter()
        collate = task.collator(tokenizer)
        names = {*tokenizer.model_input_names, "labels"}
        super().__init__(
            model=model,
            args=args,
            train_dataset=splits["train"].inputs if "train" in splits else None,
            eval_dataset=splits["validation"].inputs,
            data_collator=lambda items: collate([{n: i[n] for n in names & i.keys()} for i in items]),
        )
        self.model_accepts_loss_kwargs = False  # the loss is each batch's mean, as in the published runs
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(_Watch(self, on_step))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        outputs = model(**inputs)
        loss = outputs.loss
        if model.training:
            if self.penalty is not None:
                loss = loss + self.penalty(self.task_model)
            self.loss_sum = self.loss_sum.to(loss.device) + loss.detach().mean()
            self.loss_count += 1
        return (loss, outputs) if return_outputs else loss

    def mean_loss(self) -> float:
        """The mean training loss since the epoch began.

        Raises:
            Diverged: where it is not finite.
        """
        total = self.accelerator.reduce(self.loss_sum, reduction="mean")  # over all processes
        return self.finite("training", float(total) / max(self.loss_count, 1))

    def finite(self, which: str, loss: float) -> float:
        """`loss` itself, where it is a finite number."""
        if not math.isfinite(loss):
            raise Diverged(
                f"the {which} loss became {loss} by step {self.state.global_step}: lower trainer.learning_rate "
                f"(it is {self.args.learning_rate}), or train in float32"
            )
        return loss

    def examine(self, split: Split) -> Evaluation:
        """Evaluate on a split, in batches of texts of like lengths, the longest first. It leaves no trace in the random
        state."""
        order, states = np.argsort(split.inputs["length"], kind="stable")[::-1], generators(self.order)
        try:
            output = self.predict(split.inputs.select(order))
        finally:
            set_generators(states, self.order)
        logits, labels = (_reordered(np.asarray(rows), order) for rows in (output.predictions, output.label_ids))
        predictions = self.task.predictions(logits, split)
        with torch.no_grad():
            penalty = 0.0 if self.penalty is None else float(self.penalty(self.task_model))
        loss = self._loss_of(logits, labels) + penalty
        return Evaluation(
            loss,
            penalty,
            self.task.score(predictions, split.examples),
            self.task.outcomes(predictions, split.examples),
            self.task.only_class(predictions),
        )

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        if self.args.world_size == 1:
            preemption.give_way()
        with torch.inference_mode():
            return super().prediction_step(*args, **kwargs)

    def _loss_of(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The mean over batches of the split in its order. Trainer's own depends on how processes share them."""
        parts = (torch.as_tensor(rows).split(self.args.eval_batch_size) for rows in (logits, labels))
        batches = zip(*parts, strict=True)
        return sum(len(gold) * float(self.task_model.loss(given, gold)) for given, gold in batches) / len(labels)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._load_rng_state(None)
        train_loss = self.mean_loss()
        try:
            dev = self.examine(self.splits["validation"])
        except preemption.Preempted:
            self._stop()
            raise
        self.finite("validation", dev.loss)
        self.epoch = Epoch(
            epoch=self.epoch_number,
            step=self.state.global_step,
            train_loss=train_loss,
            learning_rate=self.last_rate,
            dev=dev,
            seconds=time.perf_counter() - self.epoch_started,
        )
        self.loss_sum, self.loss_count = torch.zeros(()), 0
        return {f"eval_{name}": value for name, value in dev.scores.items()} | {"eval_loss": dev.loss}

    @property
    def parts(self) -> Parts:
        """What a checkpoint is taken of."""
        optimization = (self.optimizer, self.lr_scheduler, self.accelerator.scaler)
        return Parts(self.task_model, *optimization, self.order, self.began)

    def give_way(self) -> None:
        """Keep where the training is, and end, where the machine is wanted back.

        Raises:
            Preempted: then.
        """
        signal = preemption.asked()
        if self.args.world_size > 1:
            signal = int(self.accelerator.gather(torch.tensor([signal], device=self.args.device)).max())
        if signal:
            self._stop()
            raise preemption.Preempted(signal)

    def _stop(self) -> None:
        if self.began:
            self.on_stop(
                {
                    "loss_sums": processes.from_all(float(self.loss_sum)),
                    "loss_count": self.loss_count,
                    "last_rate": self.last_rate,
                    "seconds": time.perf_counter() - self.epoch_started,
                }
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.began = {}
        self.on_epoch(self.epoch)
        self.epoch_started = time.perf_counter()
        self.give_way()

    def _init_training_state(self, max_steps: int, steps_in_epoch: int, *others: Any) -> tuple[int, int]:
        begun = super()._init_training_state(max_steps, steps_in_epoch, *others)
        if self.resume is None:
            return begun
        had = (self.resume.max_steps, self.resume.processes)
        has = (max_steps, processes.count())
        if had != has:
            raise SptError(
                "the interrupted run was one of {} steps by {} processes, this is one of {} by {}: go on with as many "
                "processes and devices as it had, or start anew with force=true".format(*had, *has)
            )
        self.state.global_step = self.resume.step
        steps = 0
        if within := self.resume.within:
            self.behind = True
            self.loss_sum = torch.tensor(within["loss_sums"][processes.rank()])
            self.loss_count = within["loss_count"]
            self.last_rate = within["last_rate"]
            self.epoch_started -= within["seconds"]
            steps = steps_in_epoch if self.resume.step == max_steps else self.resume.step - self.resume.begin
        return len(self.resume.history), steps * self.args.gradient_accumulation_steps

    def _prepare_for_training(self, *args: Any) -> Any:
        prepared = super()._prepare_for_training(*args)
        if self.resume is not None:
            self.parts.load(self.resume)
        return prepared

    def _run_epoch(self, *, epoch: int, **others: Any) -> None:  # type: ignore[override]
        self.epoch_number = epoch + 1
        self.began = generators(self.order)
        if self.behind:
            others["resume_from_checkpoint"] = self.resume  # has Trainer pass over the batches that were seen
        super()._run_epoch(epoch=epoch, **others)

    def _load_rng_state(self, checkpoint: Any) -> None:
        """What Trainer calls once the order of an epoch that it goes on with is drawn."""
        if self.behind:
            assert self.resume is not None
            self.parts.catch_up(self.resume)
            self.behind = False

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LRScheduler:
        name, options = self.schedule
        if name != EXPONENTIAL:
            try:
                return super().create_scheduler(num_training_steps, optimizer)
            except TypeError as error:
                raise SptError(f"trainer.lr_scheduler_kwargs do not fit lr_scheduler_type={name}: {error}") from error
        optimizer = optimizer or self.optimizer
        batches = math.ceil(len(self.splits["train"].inputs) / (self.args.train_batch_size * self.args.world_size))
        steps = math.ceil(batches / self.args.gradient_accumulation_steps)
        self.lr_scheduler = LambdaLR(optimizer, lambda step: options["gamma"] ** (step // steps))
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):  # its own stream: dropout does not change the order
            sampler.generator = self.order.manual_seed(self.args.seed)
            sampler.batch_size *= self.args.world_size
        return sampler

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        loader = super()._get_dataloader(*args, **kwargs)
        loader.base_dataloader.worker_init_fn = preemption.not_to_workers  # type: ignore[attr-defined]
        return loader

    def get_train_dataloader(self) -> DataLoader:
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        sampler = self._get_train_sampler()
        args = self.args
        loader = DataLoader(
            self.splits["train"].inputs,
            batch_sampler=_Shares(sampler, args.train_batch_size, args.world_size),  # type: ignore[arg-type]
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=preemption.not_to_workers,
        )
        return self.accelerator.prepare(loader)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        return None if eval_dataset is None or self.args.world_size > 1 else SequentialSampler(eval_dataset)  # type: ignore[arg-type]


def _reordered(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows that came in an order, each in its place."""
    placed = np.empty_like(rows)
    placed[order] = rows
    return placed


class _Shares(Sampler[list[int]]):
    """The batches that one process would make of `batch_size` times `processes` rows, each shared out among them.

    accelerate hands the shares round, one to each process. No row of an epoch is seen twice, but for a last batch with
    fewer rows than there are processes: each of them takes part in every step.
    """

    batch_size = None  # accelerate's word for batches of any size

    def __init__(self, sampler: Sampler[int], batch_size: int, processes: int):
        self.sampler, self.rows, self.processes = sampler, batch_size * processes, processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in BatchSampler(self.sampler, self.rows, drop_last=False):
            for process in range(self.processes):
                yield batch[process :: self.processes] or batch[:1]

    def __len__(self) -> int:
        return self.processes * math.ceil(len(self.sampler) / self.rows)  # type: ignore[arg-type]


class _Watch(TrainerCallback):
    def __init__(self, trainer: TaskTrainer, on_step: Callable[[int, int, float], None]):
        self.trainer, self.on_step = trainer, on_step

    def on_pre_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.last_rate = kwargs["optimizer"].param_groups[0]["lr"]

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % CHECK_EVERY == 0 or state.global_step == state.max_steps:
            self.on_step(state.global_step, state.max_steps, self.trainer.mean_loss())
        if args.world_size == 1 or state.global_step % CHECK_EVERY == 0:
            self.trainer.give_way()


def training_arguments(
    settings: dict[str, Any], seed: int, output_dir: Path
) -> tuple[TrainingArguments, tuple[str, dict[str, Any]]]:
    """TrainingArguments from `settings`, which have Trainer's own names, and the schedule with its options.

    To Trainer's schedules it adds "exponential": the learning rate times gamma after every epoch.
    """
    settings = dict(settings)
    fields = TrainingArguments.__dataclass_fields__
    for name, value in settings.items():
        if name not in SETTINGS:
            whose = "not for a run to set" if name in fields else "no setting of transformers' Trainer"
            raise SptError(f"trainer.{name} is {whose}: {nearest(name, SETTINGS)}")
        kind = type(fields[name].default)
        if kind in IS_A and not IS_A[kind](value):
            raise SptError(f"trainer.{name} must be of type {kind.__name__}, not {value!r}")
        choices = fields[name].metadata.get("choices")
        if choices and value not in choices:
            raise SptError(f"unknown trainer.{name} {value!r}: {nearest(value, choices)}")
    name, options = settings.pop("lr_scheduler_type"), settings.pop("lr_scheduler_kwargs", None) or {}
    if not isinstance(options, dict):
        raise SptError(f"trainer.lr_scheduler_kwargs must be names with values, not {options!r}")
    options = dict(options)
    if name == EXPONENTIAL:
        gamma = options.setdefault("gamma", 0.95)
        if len(options) > 1:
            (wrong, *_) = options.keys() - {"gamma"}
            raise SptError(
                f"trainer.lr_scheduler_kwargs.{wrong} is no option of exponential: {nearest(wrong, ['gamma'])}"
            )
        if not is_number(gamma) or not 0 < gamma <= 1:
            raise SptError(f"trainer.lr_scheduler_kwargs.gamma must be above 0 and at most 1, not {gamma!r}")
        if settings.get("warmup_steps"):
            raise SptError("trainer.warmup_steps has no effect on lr_scheduler_type=exponential: set it to 0")
    else:
        schedules = [EXPONENTIAL, *(schedule.value for schedule in SchedulerType)]
        if name not in schedules:
            raise SptError(f"unknown trainer.lr_scheduler_type {name!r}: {nearest(name, schedules)}")
        settings |= {"lr_scheduler_type": name, "lr_scheduler_kwargs": options}
    for setting, value in settings.items():
        holds, bound = BOUNDS.get(setting, NOT_NEGATIVE)
        if value is not None and not holds(value):
            raise SptError(f"trainer.{setting} must be {bound}, not {value!r}")
    for setting, known in (("torch_compile_backend", _compilers), ("torch_compile_mode", _compiler_modes)):
        if (chosen := settings.get(setting)) is not None and chosen not in known():
            raise SptError(f"unknown trainer.{setting} {chosen!r}: {nearest(chosen, known())}")
    precision = next((name for name in ("bf16", "fp16") if settings.get(name)), "no")
    elsewhere = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if elsewhere not in ("no", precision):
        raise SptError(
            f"ACCELERATE_MIXED_PRECISION={elsewhere}, of the environment or accelerate's own config, is not what "
            f"trainer.bf16 and trainer.fp16 ask for, {precision!r}: set it to no, and trainer.bf16 or trainer.fp16"
        )
    accelerated = torch.accelerator.is_available()
    if settings.get("fp16") and not accelerated:
        raise SptError("trainer.fp16 needs an accelerator, and this machine has none: trainer.bf16=true works without")
    defaults = {
        "use_cpu": not accelerated,
        "dataloader_pin_memory": accelerated,
        "ddp_find_unused_parameters": False,  # whatever trains takes part in every loss
    }
    try:
        arguments = TrainingArguments(output_dir=str(output_dir), seed=seed, **OURS, **defaults | settings)
        arguments._n_gpu = min(arguments.n_gpu, 1)  # else Trainer spreads the batches of one process over all GPUs
    except (ValueError, TypeError, ImportError) as error:
        raise SptError(f"trainer: {error}") from error
    return arguments, (name, options)


def _compilers() -> list[str]:
    from accelerate.utils import DynamoBackend

    return [backend.lower() for backend in DynamoBackend.list() if backend != DynamoBackend.NO]


def _compiler_modes() -> list[str]:
    from torch._inductor import list_mode_options

    return list(list_mode_options())
