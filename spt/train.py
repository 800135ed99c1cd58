"""Train one method on one task: `python -m spt.train task=rte method=spt`."""

from typing import Any

from omegaconf import DictConfig

from spt.command import command, refuse_unknown_recipe, sweep_name
from spt.sweeps.hyperparameter_search import refuse_search_without_multirun


@command("train")
def main(config: DictConfig) -> float:
    """Train what the config describes, or show the result of the same run where it is finished.

    Returns:
        The best dev score, by which a search chooses.
    """
    from spt.console import show_result
    from spt.report.published_numbers import published
    from spt.training.run_experiment import run_experiment

    refuse_unknown_recipe(config)
    refuse_search_without_multirun()
    references = published(*(config[group].name for group in ("task", "model", "method")))

    def show(record: dict[str, Any], note: str | None) -> None:
        show_result(record, references, note)

    return run_experiment(config, show, sweep_name())["metrics"]["best_dev"]


if __name__ == "__main__":
    main()
