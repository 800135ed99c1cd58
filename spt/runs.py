"""The finished runs in a folder, as a table: `python -m spt.runs output_dir=runs`, and means: `over=seed`."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from spt.command import command

FORMATS = ("table", "csv", "latex", "json")


@command("runs")
def main(config: DictConfig) -> None:
    """Print a line for each run, or with `by` or `over` a line of means for each combination of settings."""
    from spt.console import console
    from spt.errors import SptError, nearest
    from spt.grid.merge_runs import merge_runs
    from spt.grid.run_table import show_means, show_runs
    from spt.paths import local_path
    from spt.records.schema import read_records

    if not isinstance(config.output_dir, str) or not config.output_dir:
        raise SptError(f"output_dir must be a folder, not {config.output_dir!r}")
    if config.merge is not None:
        copied, known = merge_runs(local_path(str(config.merge)), Path(config.output_dir))
        console.print(f"{copied} runs copied to {config.output_dir}, {known} were there already", markup=False)
        return
    if config.format not in FORMATS:
        raise SptError(f"unknown format {config.format!r}: {nearest(str(config.format), FORMATS)}")
    by, over = (_names(config[key]) for key in ("by", "over"))
    records = read_records(config.output_dir)
    if not records:
        raise SptError(f"{config.output_dir!r} holds no finished run: python -m spt.train output_dir=... makes one")
    if by or over:
        show_means(records, by, over or ["seed"], config.format)
        explanation = "mean ± sample standard deviation over runs, in percent; "
    else:
        show_runs(records, config.format)
        explanation = "s: seconds; with: settings in which runs of the same task, model and method differ; "
        explanation += "run: the end of the folder's name; parameters: trainable ones; "
    if config.format == "table":
        console.print(
            f"{explanation}best dev: the maximum over epochs, on the split that selects the epoch; test and further "
            "splits: at that epoch"
        )


def _names(value: str | ListConfig | None) -> list[str]:
    return [] if value is None else [str(each) for each in (value if isinstance(value, ListConfig) else [value])]


if __name__ == "__main__":
    main()
