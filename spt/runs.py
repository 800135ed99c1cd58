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
        raise SptError(f"{config.output_dir!r} holds no finished run: python -m spt.train output_dir=... makes some")
    known = ("best_dev", "last_dev", "test")
    further = list(dict.fromkeys(name for record in records for name in record["metrics"] if name not in known))
    dev = ("best dev", "last dev", *further, "test")
    columns = ("task", "model", "method", "with", "seed", "metric", *dev, "trained", "s", "", "run")
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
    console = Console(width=200)  # a narrow terminal may wrap the lines: cut off they would be no table
    console.print(table)
    console.print(
        "best dev: the maximum over epochs @epoch, on the split that chose it; test and further splits: at that epoch; "
        "s: seconds; with: what runs of the same name differ in; run: the end of the folder's name"
    )


def differences(records: list[dict[str, Any]]) -> dict[str, str]:
    """The settings of each run, by its fingerprint, in which it differs from others of its task, model and method."""
    settings: dict[str, dict[str, Any]] = {}
    alike: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        config, own = record["config"], record["fingerprint"]
        settings[own] = {
            key: value for group in ("task", "model", "method", "trainer") for key, value in config[group].items()
        }
        alike.setdefault(_names(record), []).append(own)
    found: dict[str, str] = {}
    for prints in alike.values():
        names = list(dict.fromkeys(name for own in prints for name in settings[own]))
        varied = [name for name in names if len({str(settings[own].get(name)) for own in prints}) > 1]
        found |= {own: " ".join(f"{name}={settings[own].get(name)}" for name in varied) for own in prints}
    return found


def _names(record: dict[str, Any]) -> tuple[str, ...]:
    return record["task"], record["model"], record["method"]


if __name__ == "__main__":
    main()
