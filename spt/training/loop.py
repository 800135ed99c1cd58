"""The training loop, to be read from top to bottom.

A step is: batches -> task loss + penalty (SPT's is sl_weight times the selective loss) -> backward -> clip ->
optimizer -> schedule. After each epoch the validation split is evaluated, and the caller keeps the best epoch and
writes the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import PreTrainedTokenizerBase, enable_full_determinism

from spt.errors import SptError
from spt.methods import Penalty
from spt.modeling.slot_cosine_and_rank import slot_similarity
from spt.modeling.task_model import IGNORED, TaskModel
from spt.tasks.task import Split, Task
from spt.training import preemption
from spt.training.batches import epoch_order, loader, shares
from spt.training.checkpoint import Checkpoint, InterruptedEpoch
from spt.training.epoch import Epoch
from spt.training.evaluate_split import Evaluation, evaluate_split
from spt.training.optimizer_schedule import make_optimizer, make_schedule
from spt.training.process_group import from_all
from spt.training.settings import precision
from spt.training.trainer_schema import TrainerSettings

CHECK_EVERY = 10  # steps between looks at the loss, each of which waits for the device
Batch = tuple[list[int], dict[str, Tensor]]  # the rows of this process, and what the model takes of them


class Diverged(SptError):
    """The loss is infinite or NaN."""


class TrainingLoop:
    """The training of a TaskModel on a task's train split.

    Attributes:
        step, max_steps: optimizer steps taken, and those of the whole training.
        optimizer, scheduler, scaler: what a checkpoint holds beside the weights.
    """

    def __init__(
        self,
        model: TaskModel,
        task: Task,
        splits: dict[str, Split],
        tokenizer: PreTrainedTokenizerBase,
        settings: TrainerSettings,
        seed: int,
        accelerator: Accelerator,
        penalty: Penalty | None = None,
    ):
        self.task, self.splits, self.tokenizer, self.penalty = task, splits, tokenizer, penalty
        self.settings, self.seed, self.accelerator = settings, seed, accelerator
        self.device, self.processes = accelerator.device, accelerator.num_processes
        self.batch_size = settings.per_device_train_batch_size * self.processes
        self.lengths = list(splits["train"].inputs["length"])  # the column itself is read anew at every look
        batches = math.ceil(len(self.lengths) / self.batch_size)
        self.steps_per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
        by_epochs = math.ceil(settings.num_train_epochs * self.steps_per_epoch)
        self.max_steps = by_epochs if settings.max_steps == -1 else settings.max_steps
        self.step = self.epoch_start = 0

        torch.set_float32_matmul_precision(settings.float32_products)  # also outside of `precision`: backward
        self.model = model.to(self.device)
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        self.forward: nn.Module = accelerator.prepare_model(model) if self.processes > 1 else model
        if settings.compiles:
            torch.compiler.reset()  # compiled models of earlier runs of this process count towards a limit
            backend = settings.torch_compile_backend or "inductor"
            self.forward = torch.compile(self.forward, backend=backend, mode=settings.torch_compile_mode)  # type: ignore[assignment]
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if settings.fp16 and any(parameter.dtype == torch.float16 for parameter in self.trainable):
            raise SptError("trainer.fp16 cannot train weights of the backbone in float16: set model.dtype=float32")
        self.optimizer = make_optimizer(model, settings)
        self.scheduler = make_schedule(self.optimizer, settings, self.steps_per_epoch, self.max_steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.fp16)

    def run(
        self,
        on_epoch: Callable[[Epoch], None] = lambda epoch: None,
        on_preempted: Callable[[InterruptedEpoch], None] = lambda within: None,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
        resume: Checkpoint | None = None,
    ) -> None:
        """Train until `max_steps`.

        Args:
            on_epoch: called with each epoch, after its evaluation.
            on_preempted: called within an epoch, when the job is preempted, with what is known of the epoch.
            on_step: called after the first step, and then every few, with the step and the epoch's mean training loss.
            resume: a checkpoint to resume from, whose weights are in the model already.

        Raises:
            Diverged: where a loss is infinite or NaN.
            Preempted: where the job is preempted.
        """
        seed_all = enable_full_determinism if self.settings.full_determinism else set_seed
        seed_all(self.seed + self.accelerator.process_index)
        done = 0
        if resume is not None:
            self._load(resume)
            done = len(resume.history)
        self.first_step = self.step + 1
        for number in range(done + 1, math.ceil(self.max_steps / self.steps_per_epoch) + 1):
            self._begin_epoch(resume.within if resume is not None and number == done + 1 else None)
            try:
                self._train_epoch(number, on_step)
                train_loss = self.mean_loss()
                dev = self.evaluate("validation")
            except preemption.Preempted:
                on_preempted(self._interrupted_epoch())
                raise
            self._check_finite("validation", dev.loss)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(dev.loss)
            seconds = time.perf_counter() - self.started
            on_epoch(Epoch(number, self.step, train_loss, self.last_rate, dev, seconds, slot_similarity(self.model)))
            self.epoch_start = self.step
            self._exit_if_preempted()

    def try_steps(self, count: int) -> float:
        """The mean seconds of `count` optimizer steps on short, middle and long batches, after one on the longest.

        The steps change the model: they are for a loop that is not to be run.
        """
        own, size = self._batch_rows(1), self.settings.gradient_accumulation_steps
        groups = [own[start : start + size] for start in range(0, len(own), size)]
        longest = [max((self.lengths[row] for rows in group for row in rows), default=0) for group in groups]
        of_all = [max(each) for each in zip(*from_all(longest), strict=True)]  # all processes take the same groups
        groups = [groups[place] for place in sorted(range(len(groups)), key=of_all.__getitem__)]
        # torch.compile compiles again at the second length, so that the first round is not measured.
        rounds = 2 if self.settings.compiles else 1
        chosen = [groups[-1], *(groups[len(groups) * (2 * place + 1) // (2 * count)] for place in range(count))]
        seconds = []
        self._begin_epoch(None)
        for group in chosen * rounds:
            batches = list(self._loaded(group))
            began = time.perf_counter()
            self._optimizer_step(batches)
            self.mean_loss()  # waits for the device
            seconds.append(time.perf_counter() - began)
        return sum(seconds[-count:]) / count

    def _begin_epoch(self, within: InterruptedEpoch | None) -> None:
        self.model.train()
        self.started = time.perf_counter() - (within.seconds if within else 0.0)
        self.last_rate = within.last_rate if within else self.optimizer.param_groups[0]["lr"]
        loss_sum = within.loss_sums[self.accelerator.process_index] if within else 0.0
        dtype = torch.promote_types(self.model.encoder.dtype, torch.float32)
        self.loss_sum = torch.tensor(loss_sum, dtype=dtype, device=self.device)
        self.loss_count = within.loss_count if within else 0

    def _train_epoch(self, number: int, on_step: Callable[[int, float], None]) -> None:
        for batches in self._steps(number):
            self._optimizer_step(batches)
            looks = self.step % CHECK_EVERY == 0
            if looks or self.step in (self.first_step, self.max_steps):
                on_step(self.step, self.mean_loss())
            if looks or self.processes == 1:
                self._exit_if_preempted()

    def _steps(self, number: int) -> Iterator[list[Batch]]:
        """The batches of each optimizer step of an epoch, less those of the steps that were taken already."""
        size = self.settings.gradient_accumulation_steps
        taken = (self.step - self.epoch_start) * size
        batches = self._loaded(self._batch_rows(number)[taken:])
        while self.step < self.max_steps and (group := list(islice(batches, size))):
            yield group

    def _batch_rows(self, number: int) -> list[list[int]]:
        """The rows of train in each batch of this process in an epoch."""
        order = epoch_order(self.lengths, self.settings.train_sampling_strategy, self.batch_size, self.seed, number)
        return shares(order, self.batch_size, self.accelerator.process_index, self.processes)

    def _loaded(self, rows: list[list[int]]) -> Iterator[Batch]:
        """The batches of these rows of train."""
        inputs, collate = self.splits["train"].inputs, self.task.collator(self.tokenizer)
        return zip(rows, loader(inputs, rows, collate, self.settings), strict=True)

    def _optimizer_step(self, batches: list[Batch]) -> None:
        """One step on the mean of the batches' losses."""
        for number, (rows, batch) in enumerate(batches, start=1):
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.forward):
                loss = self._loss(rows, batch)
                self.scaler.scale(loss / len(batches)).backward()
            self.loss_sum += loss.detach()
            self.loss_count += 1
        self.scaler.unscale_(self.optimizer)
        if self.settings.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.trainable, self.settings.max_grad_norm)
        self.last_rate = self.optimizer.param_groups[0]["lr"]
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        skipped = self.scaler.get_scale() < scale  # by the loss scaling of fp16
        if not skipped and not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        self.optimizer.zero_grad()
        self.step += 1

    def _loss(self, rows: list[int], batch: dict[str, Tensor]) -> Tensor:
        """Task loss of a batch plus penalty; of several processes, the mean over them is that of the whole batch."""
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with precision(self.settings, self.device):
            loss = self.forward(**batch).loss
        if self.processes > 1:
            labels = batch["labels"]
            counted = labels.numel() if labels.is_floating_point() else (labels != IGNORED).sum()
            own = torch.as_tensor(counted if rows else 0, dtype=loss.dtype, device=self.device)
            mean = self.accelerator.reduce(own, reduction="mean")
            loss = loss * own / mean.clamp(min=1 / self.processes)  # 0 if the batch has no labelled word at all
        return loss if self.penalty is None else loss + self.penalty(self.model)

    def mean_loss(self) -> float:
        """The mean training loss of the epoch so far, over all processes.

        Raises:
            Diverged: where it is infinite or NaN.
        """
        total = self.accelerator.reduce(self.loss_sum, reduction="mean")
        return self._check_finite("training", float(total) / max(self.loss_count, 1))

    def evaluate(self, name: str) -> Evaluation:
        """Evaluate the model on the split called `name`."""
        exit_early = preemption.exit_if_requested if self.processes == 1 else lambda: None
        split, model = self.splits[name], self.model
        return evaluate_split(
            model, self.task, split, self.tokenizer, self.settings, self.accelerator, self.penalty, exit_early
        )

    def _check_finite(self, which: str, loss: float) -> float:
        if not math.isfinite(loss):
            raise Diverged(
                f"the {which} loss became {loss} by step {self.step}: lower trainer.learning_rate "
                f"(it is {self.settings.learning_rate}), or train in float32"
            )
        return loss

    def _exit_if_preempted(self) -> None:
        """End in Preempted where any process was sent a signal."""
        signal = preemption.requested()
        if self.processes > 1:
            signal = int(self.accelerator.gather(torch.tensor([signal], device=self.device)).max())
        if signal:
            raise preemption.Preempted(signal)

    def _interrupted_epoch(self) -> InterruptedEpoch:
        sums, seconds = from_all(float(self.loss_sum)), time.perf_counter() - self.started
        return InterruptedEpoch(loss_sums=sums, loss_count=self.loss_count, last_rate=self.last_rate, seconds=seconds)

    def _load(self, checkpoint: Checkpoint) -> None:
        checkpoint.load_state(self.model, self.optimizer, self.scheduler, self.scaler)
        checkpoint.set_random_state(self.accelerator.process_index)
        self.step, self.epoch_start = checkpoint.step, checkpoint.epoch_start
