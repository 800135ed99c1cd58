"""See what the prefixes of an adapter learned: `python -m spt.inspect run=<run or adapter> [split=test]`.

The function `spt.inspect` is in `spt.insight.inspect_adapter`.
"""

from pathlib import Path

from omegaconf import DictConfig

from spt.command import command
from spt.errors import SptError
from spt.paths import local_path

FOLDER, RESULT = "insight", "insight.json"


@command("inspect")
def main(config: DictConfig) -> None:
    """Print how a run's prefixes look and act on a split, layer by layer, and write all measures to a file."""
    from spt.adapters.predictor import load
    from spt.console import console, logged
    from spt.console import log as messages
    from spt.evaluate import examples_for
    from spt.files import write_atomically, written
    from spt.insight.inspect_adapter import inspect
    from spt.insight.terminal_tables import tables

    if not isinstance(config.interventions, bool):
        raise SptError(f"interventions must be true or false, not {config.interventions!r}")
    folder = result_folder(config)
    with logged():
        predictor = load(config.run, base_model=config.base_model, revision=config.revision)
        examples = examples_for(predictor, config.split, config.data_dir, config.file)
        insight = inspect(
            predictor,
            examples,
            interventions=config.interventions,
            batch_size=config.batch_size,
            seed=config.seed,
            split=str(config.file or config.split),
            show_progress=True,
        )
        for table in tables(insight):
            console.print(table)
        with written(folder / RESULT, "or have output name another folder"):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / RESULT, insight.to_json())
        messages.info("%s %s (%d examples): %s", insight.task, insight.split, len(examples), folder / RESULT)


def result_folder(config: DictConfig) -> Path:
    """Where the results go: `output`, else `insight` in the run's folder, beside an adapter, or for the hub's here."""
    from spt.records.schema import ADAPTER

    if config.output is not None:
        if not isinstance(config.output, str) or not config.output or Path(config.output).is_file():
            raise SptError(f"output must name a folder, not {config.output!r}")
        return Path(config.output)
    source = local_path(str(config.run))
    if not source.is_dir():
        return Path(FOLDER)
    return (source if (source / ADAPTER).is_dir() else source.resolve().parent) / FOLDER


if __name__ == "__main__":
    main()
