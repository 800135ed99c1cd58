"""Write a report with `python -m spt.report`, or show where a number comes from: `cell=superglue/cb/minilm/spt`."""

from omegaconf import DictConfig

from spt.command import command


@command("report", verbatim=("runs",))
def main(config: DictConfig) -> None:
    """Write the report of the records in `results_dir` or of the runs in `runs`, or show where a number comes from."""
    from spt.report.write_report import report, tell
    from spt.reproduce import data_fingerprint

    if config.cell is None:
        report(config, data_fingerprint)
    else:
        tell(config, data_fingerprint)


if __name__ == "__main__":
    main()
