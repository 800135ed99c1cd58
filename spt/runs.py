"""The finished runs in a folder, as a table: `python -m spt.runs output_dir=runs`."""

from typing import Any

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
    from spt.records.schema import read_records

    records = read_records(config.output_dir)
    if not records:
        raise SptError(f"{config.output_dir!r} holds no finished run: python -m spt.train output_dir=... makes one")
    known = ("best_dev", "last_dev", "test")
    further = list(dict.fromkeys(name for record in records for name in record["metrics"] if name not in known))
    dev = ("best dev", "last dev", *further, "test")
    columns = ("task", "model", "method", "with", "seed", "metric", *dev, "parameters", "s", "", "run")
    table = Table(*columns, box=box.SIMPLE)
    differing = differences(records)
    for record in sorted(records, key=lambda r: (_names(r), differing[r["fingerprint"]], r["seed"])):
        metrics = record["metrics"]
        table.add_row(
            *(*_names(record), differing[record["fingerprint"]], str(record["seed"]), record["metric"]),
            *(f"{percent(metrics['best_dev'])} @{record['best_epoch']}", percent(metrics["last_dev"])),
            *(percent(metrics.get(name)) for name in (*further, "test")),
            *(f"{record['trainable_parameters']:,}", f"{record['wall_seconds']:.0f}"),
            "collapsed" if record["collapsed"] else "" if record["status"] == "finished" else record["status"],
            record["fingerprint"],
        )
    console = Console(width=200)  # a narrow terminal may wrap the lines; Rich would cut them off
    console.print(table)
    console.print(
        "best dev: the maximum over epochs @epoch, on the split that selects the epoch; test and further splits: at "
        "that epoch; parameters: trainable ones; s: seconds; with: settings in which runs of the same task, model and "
        "method differ; run: the end of the folder's name"
    )


def differences(records: list[dict[str, Any]]) -> dict[str, str]:
    """By the fingerprint of each run, the settings in which runs of its task, model and method differ."""
    groups: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for record in records:
        settings: dict[str, Any] = {}
        for name in ("task", "model", "method", "trainer"):
            settings |= record["config"][name]
        groups.setdefault(_names(record), {})[record["fingerprint"]] = settings
    varying: dict[str, str] = {}
    for group in groups.values():
        names = dict.fromkeys(name for settings in group.values() for name in settings)
        varied = [name for name in names if len({str(settings.get(name)) for settings in group.values()}) > 1]
        for fingerprint, settings in group.items():
            varying[fingerprint] = " ".join(f"{name}={settings.get(name)}" for name in varied)
    return varying


def _names(record: dict[str, Any]) -> tuple[str, ...]:
    return record["task"], record["model"], record["method"]


if __name__ == "__main__":
    main()
