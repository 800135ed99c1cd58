"""Make an adapter smaller: `python -m spt.prune run=<run or adapter> keep=5 [output=folder]`."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from spt.command import command
from spt.console import log, logged, percent
from spt.errors import SptError, check_count
from spt.files import temporary_folder, written
from spt.hydra_targets import load_options
from spt.paths import local_path
from spt.records.schema import ADAPTER, output_folder

if TYPE_CHECKING:
    from spt.adapters.predictor import Predictor
    from spt.tasks.task import Example


@command("prune")
def main(config: DictConfig) -> None:
    """Write an adapter with the most used slots of each layer, and print its dev score beside the unpruned one's."""
    from spt.adapters.format import WEIGHTS
    from spt.adapters.predictor import load
    from spt.evaluate import examples_for

    check_count("keep", config.keep)
    folder = new_folder(config)
    with logged():
        predictor = load(config.run, **load_options(config))
        full = predictor.adapter
        if full.description.prefix is None:
            raise SptError(f"{full.folder} has no prefixes to prune")
        if config.keep > (length := full.description.prefix.prefix_length):
            raise SptError(f"keep={config.keep} is more than the {length} slots that each layer of {full.folder} has")
        splits = {str(config.split), "validation"}
        examples = {split: examples_for(predictor, split, config.data_dir, None) for split in splits}
        with written(folder, "or have output name another folder"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with temporary_folder(folder.parent) as temporary:
                made = temporary / folder.name
                scores = write_pruned(predictor, examples, config, made / ADAPTER, folder / ADAPTER)
                size = (made / ADAPTER / WEIGHTS).stat().st_size
                made.replace(folder)
        for slots, own, count in (
            (length, scores[0], (full.folder / WEIGHTS).stat().st_size),
            (config.keep, scores[1], size),
        ):
            words = ", ".join(f"{name} {percent(score)}" for name, score in own.items())
            log.info("%d slots a layer: dev %s, %s bytes", slots, words, f"{count:,}")
        log.info("%s", folder)


def new_folder(config: DictConfig) -> Path:
    """The folder to write: `output`, else pruned_<keep> in the run's folder, beside an adapter, or for the hub's here.

    Raises:
        SptError: if it is there already.
    """
    folder = output_folder(config.output, str(config.run), f"pruned_{config.keep}")
    if folder.exists():
        raise SptError(f"{folder} is there already: delete it, or have output name another folder")
    return folder


def write_pruned(
    predictor: "Predictor", examples: "dict[str, list[Example]]", config: DictConfig, folder: Path, place: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Write the pruned adapter and its card.

    Args:
        predictor: has the full adapter.
        examples: of dev ("validation"), and of the split that attention is measured on.
        config: of `spt.prune`.
        folder: where the adapter is written.
        place: where it will be, for its card.

    Returns:
        The dev scores of the full and of the pruned adapter.
    """
    from spt.adapters.format import Pruning, read_adapter
    from spt.adapters.model_card import CARD, card_of
    from spt.adapters.predictor import load
    from spt.adapters.pruned import save_pruned
    from spt.evaluate import evaluate
    from spt.insight.inspect_adapter import inspect
    from spt.insight.interventions import slot_order
    from spt.tasks.task import data_fingerprint

    dev, full = examples["validation"], predictor.adapter
    insight = inspect(predictor, examples[str(config.split)], batch_size=config.batch_size, show_progress=True)
    slots = slot_order(insight)[:, : config.keep].sort(dim=1).values.tolist()
    scores = evaluate(predictor, dev, config.batch_size).scores
    description = full.run.model_copy(deep=True)
    description.pruned = Pruning(
        source=source_name(full.folder, str(config.run)),
        sha256=full.description.sha256,
        prefix_length=insight.prefix_length,
        keep=config.keep,
        split=str(config.split),
        slots=slots,
        scores=scores,
    )
    save_pruned(full, predictor.model, slots, folder, description.model_dump())
    pruned = load(folder, **load_options(config)) if full.run.needs_method else load(folder, share=predictor)
    description.training = full.training.model_copy(
        update={
            "scores": evaluate(pruned, dev, config.batch_size).scores,
            "data": full.training.data | {"validation": data_fingerprint({"validation": dev})},
            "examples": full.training.examples | {"validation": len(dev)},
        }
    )
    save_pruned(full, predictor.model, slots, folder, description.model_dump())
    card_of(read_adapter(folder), place.as_posix()).save(folder / CARD)
    return scores, description.training.scores


def source_name(folder: Path, run: str) -> str:
    """What the full adapter is called: the name of its run's folder or of its own, or its repository on the hub."""
    if not local_path(run).is_dir():
        return run
    folder = folder.resolve()
    return folder.parent.name if folder.name == ADAPTER else folder.name


if __name__ == "__main__":
    main()
