"""Score a trained adapter: `python -m spt.evaluate run=<run or adapter> [split=test] [data_dir=...]`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from spt.command import command
from spt.errors import SptError, check_count
from spt.hydra_targets import load_options
from spt.paths import local_path

if TYPE_CHECKING:
    from spt.adapters.predictor import Predictor
    from spt.tasks.task import Example
    from spt.training.evaluate_split import Evaluation


@command("evaluate")
def main(config: DictConfig) -> None:
    """Print a split's scores and compare them with those that the run recorded."""
    from spt.adapters.predictor import load
    from spt.console import logged, show_evaluation
    from spt.files import output_file, write_atomically, written
    from spt.tasks.task import data_fingerprint

    if config.batch_size is not None:
        check_count("batch_size", config.batch_size)
    output = None if config.output is None else output_file(config.output)
    with logged():
        predictor = load(config.run, **load_options(config))
        examples = examples_for(predictor, config.split, config.data_dir, config.file)
        fingerprint = data_fingerprint({config.split: examples})
        evaluation = evaluate(predictor, examples, config.batch_size)
        as_recorded = predictor.adapter.training.data.get(config.split) == fingerprint
        recorded = recorded_scores(predictor, config.split) if as_recorded else None
        show_evaluation(predictor.task.name, config.file or config.split, len(examples), evaluation.scores, recorded)
        if output is None:
            return
        data = {"split": config.split, "file": config.file, "fingerprint": fingerprint, "as_recorded": as_recorded}
        result = {"adapter": str(predictor.adapter.folder), "data": data, "task_loss": evaluation.loss}
        result |= {"scores": evaluation.scores, "recorded": recorded}
        with written(output, "or have output name another file"):
            output.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(output, json.dumps(result, indent=2) + "\n")


def examples_for(predictor: "Predictor", split: str, data_dir: str | None, file: str | None) -> "list[Example]":
    """The labelled examples of a file, or of a split in `data_dir` or where the run had its data."""
    task = predictor.task
    if file is not None:
        if data_dir is not None:
            raise SptError("give one of data_dir=<folder> and file=<file>")
        return task.read_file(str(file))
    if data_dir is not None:
        names = {name: [Path(path).name for path in paths] for name, paths in task.files.items()}
        task = replace(task, data_dir=str(data_dir), files=names)
    elif task.hub is None if task.data_dir is None else not local_path(task.data_dir).is_dir():
        place = "on the hub" if task.data_dir is None else f"in {task.data_dir} on this machine"
        raise SptError(f"{task.name}: the run's data is not {place}: name it in data_dir=<folder> or file=<file>")
    examples = task.read(str(split))
    if not examples:
        raise SptError(f"{task.name} has no labelled {split} split in its data")
    return examples


def recorded_scores(predictor: "Predictor", split: str) -> dict[str, float] | None:
    """A split's recorded scores: the adapter has those of dev, the record beside it those of other splits."""
    from spt.records.schema import RECORD, read_record

    if split == "validation":
        return predictor.adapter.training.scores
    path = predictor.adapter.folder.parent / RECORD
    return read_record(path)["scores"].get(split) if path.is_file() else None


def evaluate(predictor: "Predictor", examples: "list[Example]", batch_size: int | None = None) -> "Evaluation":
    """Score labelled examples as the run did: with its precision, and in its batches unless `batch_size` is given."""
    from spt.training.evaluate_split import evaluate_split
    from spt.training.process_group import join
    from spt.training.settings import recorded_settings

    settings = recorded_settings(predictor.adapter, batch_size)
    split = predictor.encode(examples)
    accelerator = join(settings)
    model = predictor.model.to(accelerator.device)
    return evaluate_split(model, predictor.task, split, predictor.tokenizer, settings, accelerator)


if __name__ == "__main__":
    main()
