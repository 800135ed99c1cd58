"""Score a trained adapter: `python -m spt.evaluate run=<run or adapter> [split=test] [data_dir=...]`."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from spt.command import command

if TYPE_CHECKING:
    from spt.predictor import Predictor
    from spt.training import Evaluation


@command("evaluate")
def main(config: DictConfig) -> None:
    """Print a split's scores, beside those that the run recorded for it."""
    from spt.console import logged, show_evaluation
    from spt.predictor import load
    from spt.record import write_atomically
    from spt.tasks import data_fingerprint

    with logged():
        predictor = load(config.run, base_model=config.base_model, revision=config.revision)
        examples = examples_for(predictor, config.split, config.data_dir, config.file)
        fingerprint = data_fingerprint({config.split: examples})
        evaluation = evaluate(predictor, examples, config.batch_size)
        training = predictor.adapter.about["training"]
        same = config.file is None and training["data"].get(config.split) == fingerprint
        recorded = training["scores"] if same and config.split == "validation" else None
        show_evaluation(predictor.task.name, config.file or config.split, len(examples), evaluation.scores, recorded)
        if config.output is not None:
            facts = {
                "adapter": str(predictor.adapter.folder),
                "data": {"split": config.split, "file": config.file, "fingerprint": fingerprint, "as_recorded": same},
                **{name: value for name, value in asdict(evaluation).items() if name in ("loss", "scores")},
                "recorded": recorded,
            }
            write_atomically(Path(config.output), json.dumps(facts, indent=2) + "\n")


def examples_for(predictor: "Predictor", split: str, data_dir: str | None, file: str | None) -> list[dict[str, Any]]:
    """The labelled examples of a split, where the run had it or in another folder, or of one file."""
    from spt.errors import SptError

    task = predictor.task
    if file is not None:
        return task.read_file(file)
    if data_dir is not None:
        names = {name: [Path(path).name for path in paths] for name, paths in task.files.items()}
        task = replace(task, data_dir=data_dir, files=names)
    examples = task.read(split)
    if not examples:
        raise SptError(f"{task.name} has no labelled {split} split there")
    return examples


def evaluate(predictor: "Predictor", examples: list[dict[str, Any]], batch_size: int | None = None) -> "Evaluation":
    """The scores of labelled examples, computed as the run computed its own: same batches, same precision."""
    from spt.training import TaskTrainer, training_arguments

    predictor.wear()
    training = predictor.adapter.about["training"]
    settings = training["trainer"] | ({} if batch_size is None else {"per_device_eval_batch_size": batch_size})
    arguments, schedule = training_arguments(settings, training["seed"], predictor.adapter.folder)
    split = predictor.task.encode(examples, predictor.tokenizer, predictor.limit)
    trainer = TaskTrainer(
        predictor.model, predictor.task, {"validation": split}, predictor.tokenizer, arguments, schedule
    )
    return trainer.examine(split)


if __name__ == "__main__":
    main()
