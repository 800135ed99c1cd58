"""The finished runs in a folder, as a table: `python -m spt.report output_dir=runs`."""

from omegaconf import DictConfig

from spt.command import command


@command("report")
def main(config: DictConfig) -> None:
    """Print a line for each record, ordered by task, model and method."""
    from rich.table import Table

    from spt.console import console, percent
    from spt.errors import SptError
    from spt.record import read_records

    records = read_records(config.output_dir)
    if not records:
        raise SptError(f"{config.output_dir!r} holds no finished run: python -m spt.train output_dir=... makes some")
    columns = ("task", "model", "method", "seed", "metric", "best dev", "epoch", "last dev", "test", "trained", "s", "")
    table = Table(*columns, caption="Best dev is chosen on the split it is reported on; test is at that epoch.")
    for record in sorted(records, key=lambda r: (r["task"], r["model"], r["method"], r["seed"], r["fingerprint"])):
        metrics = record["metrics"]
        table.add_row(
            *(record["task"], record["model"], record["method"], str(record["seed"]), record["metric"]),
            *(percent(metrics["best_dev"]), str(record["best_epoch"] or "-"), percent(metrics["last_dev"])),
            *(percent(metrics["test"]), f"{record['trainable_parameters']:,}", f"{record['wall_seconds']:.0f}"),
            "collapsed" if record["collapsed"] else "" if record["status"] == "finished" else record["status"],
        )
    console.print(table)


if __name__ == "__main__":
    main()
