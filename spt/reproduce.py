"""Make the tables: `python -m spt.reproduce table=ner profile=cpu` plans the grid, runs what is missing, reports."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from spt.command import command, sweep_name
from spt.errors import SptError

if TYPE_CHECKING:
    from spt.grid.plan import Costs, Plan


@command("reproduce", flags={"--dry-run": "dry_run=true"})
def main(config: DictConfig) -> None:
    """Show the plan and its cost, run what is missing or stale, publish the records, write the report."""
    from spt.files import written
    from spt.grid.plan import Costs, Plan
    from spt.records.folder_lock import locked

    if "smoke" in config.profiles and len(config.profiles) > 1:
        raise SptError("the smoke profile is a demo, whose numbers stand in no table with others: give it alone")
    if sweep_name() is not None:
        raise SptError("a grid is planned as a whole: leave out --multirun, and choose tables with table=[...]")
    for key in ("dry_run", "force"):
        if not isinstance(config[key], bool):
            raise SptError(f"{key} must be true or false, not {config[key]!r}")
    for key in ("output_dir", "results_dir"):
        if not isinstance(config[key], str) or not config[key]:
            raise SptError(f"{key} must be a folder, not {config[key]!r}")
    plan = Plan(config)
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
                plan.look()
                plan.publish()
                report(config)
    failures = plan.failures()
    if failures:
        raise SptError(f"{len(failures)} runs failed, the others are done:\n  " + "\n  ".join(failures))


def run(plan: "Plan", costs: "Costs", runs_per_gpu: int) -> None:
    """Run what is missing: first what can start, then the seeds whose learning rate that chose.

    What other processes are at work on is theirs: this one waits for it where nothing else is left, and takes over what
    they leave.
    """
    from spt.grid.launch_runs import LEFT, launch
    from spt.grid.progress import Watch, Watched
    from spt.records.folder_lock import await_one
    from spt.records.identity import folder_of

    if not plan.pending():
        return
    with Watch(len(plan.missing())) as watch:
        while jobs := plan.pending():
            for job in jobs.values():
                config = plan.config(job)
                epochs, metric = config["trainer"]["num_train_epochs"], config["task"]["metrics"][0]
                watch.add(Watched(job.name, folder_of(config), metric, epochs, costs.of(config)))
            plan.tried |= jobs.keys()
            said = launch({key: plan.command(key, job) for key, job in jobs.items()}, plan.output_dir, runs_per_gpu)
            left = {key for key, words in said.items() if words == LEFT}
            plan.tried -= left
            plan.said |= {key: words for key, words in said.items() if key not in left}
            plan.look()
            if left and left == plan.pending().keys():
                await_one([folder_of(plan.config(jobs[key])) for key in left])
                plan.look()


def report(config: DictConfig) -> None:
    """The report of all that is published beside the records of this grid: of real runs, or of the demo's."""
    from hydra import compose
    from omegaconf import open_dict

    from spt.report.build import report as write

    whole = compose("report", ["profile=smoke"] if "smoke" in config.profiles else [])
    with open_dict(whole):
        whole.results_dir = config.results_dir
        for group in ("tables", "profiles"):
            whole[group] = OmegaConf.merge(whole[group], config[group])
    write(whole)


def show(plan: "Plan", costs: "Costs") -> None:
    """The plan as a table, and what it will cost."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from spt.grid.progress import duration

    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=box.SIMPLE)
    for column in ("table", "model", "tasks", "done", "stale", "to run", "examples to see"):
        table.add_column(column, overflow="fold")
    parts = plan.parts()
    for part in parts:
        seen = f"{part.examples:,.0f}" + (f", of {part.unknown} runs unknown" if part.unknown else "")
        table.add_row(
            part.table, part.model, ", ".join(part.tasks), *map(str, (part.done, part.stale, part.to_run)), seen
        )
    console.print(table)
    if len({part.table for part in parts}) > 1:
        console.print("a run that several tables have in common counts in the first")
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
