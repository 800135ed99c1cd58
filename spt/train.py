"""Train one method on one task: `python -m spt.train task=rte method=spt`."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from spt import distributed as processes
from spt.command import command, refuse_unknown_recipe, sweep_name
from spt.report.published import published
from spt.sweeps.hyperparameter_search import refuse_search_without_multirun
from spt.training.preemption import listening

if TYPE_CHECKING:
    from spt.records.run_folder import Run


def run_or_show(config: DictConfig) -> float:
    """Train what the config says, or show the result of the same run where it is finished.

    Returns:
        The best dev score, by which a search chooses.
    """
    from spt.console import logged, show_result
    from spt.records.run_folder import Run
    from spt.records.schema import LOG
    from spt.training.loop import Diverged

    refuse_unknown_recipe(config)
    refuse_search_without_multirun()
    run = Run(config)
    processes.join(run.config["trainer"])
    references = published(*(config[group].name for group in ("task", "model", "method")))
    note: str | None = f"finished before in {run.folder} (force=true repeats it)"
    if (record := finished(run)) is not None:
        with logged():
            show_result(record, references, note)
    else:
        with listening(), run.locked(), logged(run.folder / LOG):
            if (record := finished(run)) is None:  # nor did another process make it meanwhile
                record, note = train(run, config), None
            show_result(record, references, note)
    if record["status"] == "diverged":
        raise Diverged(record["warnings"][0])
    return record["metrics"]["best_dev"]


def finished(run: "Run") -> dict[str, Any] | None:
    """The record of the run, where it was made before and is not to be made anew."""
    return processes.from_main(run.record if processes.is_main() and not run.config["force"] else None)


def train(run: "Run", config: DictConfig) -> dict[str, Any]:
    """A run, from config to record."""
    # Imported here, so that --help and --cfg answer without torch.
    from transformers import set_seed

    from spt.console import show_start
    from spt.modeling.position_shift import longest_input
    from spt.modeling.pretrained_encoder import load_backbone
    from spt.modeling.task_model import TaskModel
    from spt.sweeps.gpu_assignment import take_one_gpu
    from spt.targets import instantiate
    from spt.tasks.tokenized_cache import encoded
    from spt.training.experiment import Experiment
    from spt.training.loggers import RunFolderOnly

    take_one_gpu(config.runs_per_gpu)
    checkpoint = run.start()
    set_seed(config.seed)
    task = instantiate(config.task, _convert_="all")
    data = task.load()
    encoder, tokenizer = load_backbone(**run.backbone, split_into_words=task.task_type == "token")
    model = TaskModel(encoder, task.task_type, len(task.classes), config.model.pooling)
    penalty = instantiate(config.method, model)
    limit = longest_input(encoder)
    splits = {name: encoded(task, examples, tokenizer, limit) for name, examples in data.items()}
    tracker = instantiate(config.logger) if processes.is_main() else RunFolderOnly()

    experiment = Experiment(run, task, splits, model, tokenizer, penalty, tracker, checkpoint)
    show_start(experiment.facts())
    tracker.start(run.config, run.folder, sweep_name())
    try:
        record = run.finish(experiment.fit())
    except BaseException:
        tracker.fail()
        raise
    tracker.finish(record, run.adapter)
    return processes.from_main(record)


main = command("train")(run_or_show)

if __name__ == "__main__":
    main()
