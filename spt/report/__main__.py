"""Write the report, `python -m spt.report`, or tell where a number comes from: `cell=superglue/cb/minilm/spt`."""

from omegaconf import DictConfig

from spt.command import command


@command("report")
def main(config: DictConfig) -> None:
    """Write the report of the records in `results_dir`, or tell of one cell."""
    from spt.report.build import report, tell

    if config.cell is None:
        report(config)
    else:
        tell(config)


if __name__ == "__main__":
    main()
