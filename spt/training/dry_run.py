"""How long a run would take, and how much memory: three measured steps, and nothing written (`dry_run=true`)."""

from math import ceil
from time import perf_counter

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


def dry_run(config: DictConfig) -> None:
    """Measure a few steps of what a resolved config describes, and show what the whole run would take.

    The estimate leaves out loading, checkpoints and the scores of further splits. Its memory is the peak of the GPU,
    else of the process, with the batch of the longest texts among the steps.

    Raises:
        Diverged: where the loss of these steps becomes infinite or NaN.
        SptError: where the config or what it names is wrong.
    """
    run = RunFolder(config, None)
    settings = trainer_settings(run.config["trainer"])
    if not settings.use_cpu:
        take_one_gpu(config.runs_per_gpu)
    with logged():
        accelerator = process_group.join(settings)  # sets the device
        memory = PeakMemory(settings.use_cpu)
        loop = assemble(config, run.config, settings, accelerator).loop
        facts = describe_run(run, loop)
        step, evaluation = loop.try_steps(STEPS), _seconds_per_evaluation(loop)
        evaluations = ceil(loop.max_steps / loop.steps_per_epoch)
        whole = duration(loop.max_steps * step + evaluations * evaluation)
        where = "GPU memory" if memory.cuda else "memory of the process"
        facts["measured"] = f"{step:.3g} s a step, {evaluation:.3g} s an evaluation"
        facts["estimate"] = (
            f"{whole} for {loop.max_steps} steps and {evaluations} evaluations, {memory.bytes() / 2**30:.1f} GiB "
            f"{where}; nothing was written"
        )
        show_start(facts)


def _seconds_per_evaluation(loop: TrainingLoop) -> float:
    whole = loop.splits["validation"]
    few = whole.examples[:EVALUATED]
    loop.splits["validation"] = Split(few, whole.inputs.select(range(sum(loop.task.input_counts(few)))))
    began = perf_counter()
    loop.evaluate("validation")
    return (perf_counter() - began) * len(whole.examples) / len(few)
