"""The finished runs in a folder, as a table: `python -m spt.runs output_dir=runs`."""

from omegaconf import DictConfig

from spt.command import command


@command("runs")
def main(config: DictConfig) -> None:
    """Print a line for each record, ordered by task, model and method."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from spt.console import percent
    from spt.errors import SptError
    from spt.record import read_records

    records = read_records(config.output_dir)
    if not records:
        raise SptError(f"{config.output_dir!r} holds no finished run: python -m spt.train output_dir=... makes some")
    known = ("best_dev", "last_dev", "test")
    further = list(dict.fromkeys(name for record in records for name in record["metrics"] if name not in known))
    dev = ("best dev", "last dev", *further, "test")
    columns = ("task", "model", "method", "seed", "metric", *dev, "trained", "s", "")
    table = Table(*columns, box=box.SIMPLE)
    for record in sorted(records, key=lambda r: (r["task"], r["model"], r["method"], r["seed"], r["fingerprint"])):
        metrics = record["metrics"]
        table.add_row(
            *(record["task"], record["model"], record["method"], str(record["seed"]), record["metric"]),
            *(f"{percent(metrics['best_dev'])} @{record['best_epoch']}", percent(metrics["last_dev"])),
            *(percent(metrics.get(name)) for name in (*further, "test")),
            *(f"{record['trainable_parameters']:,}", f"{record['wall_seconds']:.0f}"),
            "collapsed" if record["collapsed"] else "" if record["status"] == "finished" else record["status"],
        )
    console = Console(width=200)  # a narrow terminal may wrap the lines: cut off they would be no table
    console.print(table)
    console.print(
        "best dev: the maximum over epochs @epoch, on the split that chose it; test and further splits: at that epoch; "
        "s: seconds"
    )


if __name__ == "__main__":
    main()
