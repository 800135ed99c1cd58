"""Write a report, `python -m spt.report`, or show where a number comes from: `cell=superglue/cb/minilm/spt`.

`format=latex` prints a table, and `figures=column` writes the figures, for a paper.
"""

from omegaconf import DictConfig

from spt.command import command
from spt.path_overrides import job_overrides


@command("report")
def main(config: DictConfig) -> None:
    """Write the report of the records in `results_dir`, or its tables and figures for a paper, or explain one cell."""
    from spt.grid.own_tables import settle_results_dir
    from spt.report.one_table import for_print, is_for_print
    from spt.report.write_report import explain_cell, refuse_settings_of_tables, report_records
    from spt.reproduce import config_fingerprint

    if config.runs is None:
        settle_results_dir(config)
    else:
        refuse_settings_of_tables(job_overrides())
    if is_for_print(config):
        for_print(config, config_fingerprint)
    elif config.cell is None:
        report_records(config, config_fingerprint)
    else:
        explain_cell(config, config_fingerprint)


if __name__ == "__main__":
    main()
