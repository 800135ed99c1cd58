"""How long a run would take, and how much memory: three measured steps, and nothing written (`dry_run=true`)."""

from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Any

from omegaconf import DictConfig

from spt.console import duration, logged, show_start
from spt.records.provenance import PeakMemory
from spt.records.run_folder import RunFolder
from spt.sweeps.gpu_assignment import take_one_gpu
from spt.tasks.model_inputs import Split
from spt.training import process_group
from spt.training.assemble import assemble
from spt.training.loop import TrainingLoop
from spt.training.run_summary import describe_run
from spt.training.settings import trainer_settings

STEPS = 3
EVALUATED = 256  # examples of the dev split, whose time stands for that of all


@dataclass(frozen=True)
class Estimate:
    """What a run would take on this machine.

    Attributes:
        steps, evaluations: of the whole run.
        seconds_per_step: the mean of `STEPS` steps on short, middle and long batches.
        seconds_per_evaluation: of the dev split.
        seconds: of the whole run, without loading, checkpoints and the scores of further splits.
        peak_memory_bytes: of the GPU, else of the process, with the batch of the longest texts among the steps.
    """

    steps: int
    evaluations: int
    seconds_per_step: float
    seconds_per_evaluation: float
    seconds: float
    peak_memory_bytes: int


def dry_run(config: DictConfig) -> Estimate:
    """Measure a few steps of what a resolved config describes, and say what the whole run would take.

    Raises:
        Diverged: where the loss of these steps becomes infinite or NaN.
        SptError: where the config or what it names is wrong.
    """
    run = RunFolder(config, None)
    settings = trainer_settings(run.config["trainer"])
    take_one_gpu(config.runs_per_gpu)
    with logged():
        accelerator = process_group.join(settings)  # sets the device
        memory = PeakMemory(settings.use_cpu)
        loop = assemble(config, run.config, settings, accelerator).loop
        estimate = _estimate(loop, memory)
        show_start(
            describe_run(run, loop) | _in_words(estimate, "GPU memory" if memory.cuda else "memory of the process")
        )
    return estimate


def _estimate(loop: TrainingLoop, memory: PeakMemory) -> Estimate:
    step = loop.try_steps(STEPS)
    whole = loop.splits["validation"]
    few = whole.examples[:EVALUATED]
    loop.splits["validation"] = Split(few, whole.inputs.select(range(sum(loop.task.input_counts(few)))))
    began = perf_counter()
    loop.evaluate("validation")
    evaluation = (perf_counter() - began) * len(whole.examples) / len(few)
    loop.splits["validation"] = whole
    evaluations = ceil(loop.max_steps / loop.steps_per_epoch)
    return Estimate(
        steps=loop.max_steps,
        evaluations=evaluations,
        seconds_per_step=step,
        seconds_per_evaluation=evaluation,
        seconds=loop.max_steps * step + evaluations * evaluation,
        peak_memory_bytes=memory.bytes(),
    )


def _in_words(estimate: Estimate, where: str) -> dict[str, Any]:
    return {
        "measured": f"{estimate.seconds_per_step:.3g} s a step, {estimate.seconds_per_evaluation:.3g} s an evaluation",
        "estimate": (
            f"{duration(estimate.seconds)} for {estimate.steps} steps and {estimate.evaluations} evaluations, "
            f"{estimate.peak_memory_bytes / 2**30:.1f} GiB {where}; nothing was written"
        ),
    }
