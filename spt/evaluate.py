"""Score a trained adapter: `python -m spt.evaluate run=<run or adapter> [split=test] [data_dir=...]`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from spt.command import command
from spt.errors import SptError
from spt.paths import local_path

if TYPE_CHECKING:
    from spt.adapters.predictor import Predictor
    from spt.training.evaluate_split import Evaluation


@command("evaluate")
def main(config: DictConfig) -> None:
    """Print a split's scores, beside those that the run recorded for it."""
    from spt.adapters.predictor import load
    from spt.console import logged, show_evaluation
    from spt.files import output_file, write_atomically, written
    from spt.tasks.base import data_fingerprint

    output = None if config.output is None else output_file(config.output)
    with logged():
        predictor = load(config.run, base_model=config.base_model, revision=config.revision)
        training = training_of(predictor)
        examples = examples_for(predictor, config.split, config.data_dir, config.file)
        fingerprint = data_fingerprint({config.split: examples})
        evaluation = evaluate(predictor, examples, config.batch_size)
        same = training["data"].get(config.split) == fingerprint
        recorded = recorded_scores(predictor, config.split) if same else None
        show_evaluation(predictor.task.name, config.file or config.split, len(examples), evaluation.scores, recorded)
        if output is not None:
            facts = {
                "adapter": str(predictor.adapter.folder),
                "data": {"split": config.split, "file": config.file, "fingerprint": fingerprint, "as_recorded": same},
                "loss": evaluation.loss,
                "scores": evaluation.scores,
                "recorded": recorded,
            }
            with written(output, "or have output name another file"):
                output.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(output, json.dumps(facts, indent=2) + "\n")


def examples_for(predictor: "Predictor", split: str, data_dir: str | None, file: str | None) -> list[dict[str, Any]]:
    """The labelled examples of a split, where the run had it or in another folder, or of one file."""
    task = predictor.task
    if file is not None:
        if data_dir is not None:
            raise SptError("give one of data_dir=<folder> and file=<file>")
        return task.read_file(str(file))
    if data_dir is not None:
        names = {name: [Path(path).name for path in paths] for name, paths in task.files.items()}
        task = replace(task, data_dir=str(data_dir), files=names)
    elif task.hub is None if task.data_dir is None else not local_path(task.data_dir).is_dir():
        where = "on the hub" if task.data_dir is None else f"in {task.data_dir} here"
        raise SptError(f"{task.name}: the run's data is not {where}: data_dir=<folder> or file=<file> says where it is")
    examples = task.read(str(split))
    if not examples:
        raise SptError(f"{task.name} has no labelled {split} split there")
    return examples


def recorded_scores(predictor: "Predictor", split: str) -> dict[str, float] | None:
    """A split's scores as the run recorded them: the dev split's with the adapter, others' in the record beside it."""
    from spt.records.schema import RECORD, read_record

    if split == "validation":
        return training_of(predictor)["scores"]
    path = predictor.adapter.folder.parent / RECORD
    return read_record(path)["scores"].get(split) if path.is_file() else None


def training_of(predictor: "Predictor") -> dict[str, Any]:
    """What an adapter says of its training.

    Raises:
        SptError: where that is damaged, or nothing.
    """
    from spt.adapters.format import DESCRIPTION, damaged

    training = predictor.adapter.about.get("training")
    wanted = {"seed": int, "trainer": dict, "scores": dict, "data": dict}
    if not isinstance(training, dict) or not all(isinstance(training.get(n), kind) for n, kind in wanted.items()):
        raise damaged(predictor.adapter.folder / DESCRIPTION, f"its training lacks one of {', '.join(wanted)}")
    return training


def evaluate(predictor: "Predictor", examples: list[dict[str, Any]], batch_size: int | None = None) -> "Evaluation":
    """The scores of labelled examples, computed as the run computed its own: same batches, same precision."""
    from spt.training.evaluate_split import evaluate_split
    from spt.training.process_group import join
    from spt.training.settings import TrainerSettings, trainer_settings

    predictor.wear()
    trained = training_of(predictor)["trainer"]
    values = {name: trained[name] for name in TrainerSettings.model_fields if name in trained}
    settings = trainer_settings(values | ({} if batch_size is None else {"per_device_eval_batch_size": batch_size}))
    split = predictor.task.encode(examples, predictor.tokenizer, predictor.limit)
    accelerator = join(settings)
    model = predictor.model.to(accelerator.device)
    return evaluate_split(model, predictor.task, split, predictor.tokenizer, settings, accelerator)


if __name__ == "__main__":
    main()
