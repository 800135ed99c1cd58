"""Make the tables: `python -m spt.reproduce table=ner profile=cpu` plans the grid, runs what is missing, reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spt.command import command, sweep_name
from spt.errors import SptError

if TYPE_CHECKING:
    from spt.grid.missing_runs import Costs, Plan


@command("reproduce", flags={"--dry-run": "dry_run=true"})
def main(config: DictConfig) -> None:
    """Show the plan and its cost, run what is missing or stale, publish the records, write the report."""
    from spt.files import written
    from spt.grid.missing_runs import Costs, Plan
    from spt.records.folder_lock import locked

    if "smoke" in config.profiles and len(config.profiles) > 1:
        raise SptError("the smoke profile is a demo, and its numbers are in no table with others: give it alone")
    if sweep_name() is not None:
        raise SptError("a grid is planned as a whole: leave out --multirun, and choose tables with table=[...]")
    for key in ("dry_run", "force"):
        if not isinstance(config[key], bool):
            raise SptError(f"{key} must be true or false, not {config[key]!r}")
    for key in ("output_dir", "results_dir"):
        if not isinstance(config[key], str) or not config[key]:
            raise SptError(f"{key} must be a folder, not {config[key]!r}")
    plan = Plan(config, data_fingerprint)
    costs = Costs(plan.records.finished.values())
    show(plan, costs)
    if config.dry_run:
        return
    try:
        run(plan, costs, config.runs_per_gpu)
    finally:
        folder = Path(config.results_dir)
        with written(folder, "or set results_dir"):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, wait=True):
                plan.read_records()
                plan.publish()
                report(config)
    failures = plan.failures()
    if failures:
        raise SptError(f"{len(failures)} runs failed, the others are done:\n  " + "\n  ".join(failures))


def run(plan: "Plan", costs: "Costs", runs_per_gpu: int) -> None:
    """Run what is missing: first the runs that can start, then the seeds whose learning rate these have chosen.

    Runs that another process is working on are left to it. When nothing else is left, this process waits for them, and
    does those that the other process leaves unfinished.
    """
    from spt.grid.launch_runs import LEFT, launch
    from spt.grid.progress_bars import Watch, Watched
    from spt.records.fingerprint import folder_of
    from spt.records.folder_lock import await_one

    if not plan.pending():
        return
    with Watch(len(plan.missing())) as watch:
        while jobs := plan.pending():
            for job in jobs.values():
                config = plan.config(job)
                epochs, metric = config["trainer"]["num_train_epochs"], config["task"]["metrics"][0]
                watch.add(Watched(job.name, folder_of(config), metric, epochs, costs.of(config)))
            plan.tried |= jobs.keys()
            messages = launch({key: plan.command(key, job) for key, job in jobs.items()}, plan.output_dir, runs_per_gpu)
            left = {key for key, message in messages.items() if message == LEFT}
            plan.tried -= left
            plan.errors |= {key: message for key, message in messages.items() if key not in left}
            plan.read_records()
            if left and left == plan.pending().keys():
                await_one([folder_of(plan.config(jobs[key])) for key in left])
                plan.read_records()


def report(config: DictConfig) -> None:
    """Write the report of all records in results_dir: of real runs, or of the demo's."""
    from hydra import compose
    from omegaconf import open_dict

    from spt.report.write_report import report as write_report

    whole = compose("report", ["profile=smoke"] if "smoke" in config.profiles else [])
    with open_dict(whole):
        whole.results_dir = config.results_dir
        for group in ("tables", "profiles"):
            whole[group] = OmegaConf.merge(whole[group], config[group])
    write_report(whole, data_fingerprint)


def data_fingerprint(task: dict[str, Any]) -> str:
    """The fingerprint of the data of a task, from the task's config."""
    from spt.hydra_targets import instantiate
    from spt.tasks.base import data_fingerprint as fingerprint

    return fingerprint(instantiate(OmegaConf.create(task), _convert_="all").load())


def show(plan: "Plan", costs: "Costs") -> None:
    """Print the plan as a table, and its estimated cost."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from spt.grid.progress_bars import duration

    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=box.SIMPLE)
    for column in ("table", "model", "tasks", "done", "stale", "to run", "examples to see"):
        table.add_column(column, overflow="fold")
    runs = plan.runs_frame()
    for (name, model), part in runs.groupby(["table", "model"], sort=False):
        counts = part[["done", "stale", "to_run"]].sum().astype(str)
        seen = f"{part.examples.sum():,.0f}" + (f", of {n} runs unknown" if (n := part.unknown.sum()) else "")
        table.add_row(name, model, ", ".join(part.task.unique()), *counts, seen)
    console.print(table)
    if runs.table.nunique() > 1:
        console.print("a run that several tables share counts in the first")
    missing = plan.missing().values()
    if not missing:
        console.print("nothing to run: every run has its record")
        return
    known = [seconds for job in missing if (seconds := costs.of(plan.config(job))) is not None]
    words = [f"{len(missing)} runs to do"]
    if known:
        words.append(
            f"{len(known)} of them take about {duration(sum(known))} one after the other, by finished ones "
            f"like them on {'; '.join(sorted(costs.machines))}"
        )
    if len(known) < len(missing):
        words.append(f"no estimate for {len(missing) - len(known)} of them: no run like them has finished yet")
    console.print("; ".join(words))


if __name__ == "__main__":
    main()
