"""Make the tables: `python -m spt.reproduce table=ner profile=cpu` plans the grid, runs what is missing, reports."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spt.command import command, sweep_name
from spt.errors import SptError, check_flag, is_number
from spt.path_overrides import escaped

if TYPE_CHECKING:
    from spt.grid.missing_runs import Plan
    from spt.grid.run_costs import Costs


@command("reproduce", flags={"--dry-run": "dry_run=true"})
def main(config: DictConfig) -> None:
    """Show the plan and its cost, run what is missing or stale, publish the records, write the report."""
    from spt.files import written
    from spt.grid.missing_runs import Plan
    from spt.grid.own_tables import settle_results_dir
    from spt.grid.run_costs import Costs
    from spt.records.folder_lock import locked

    if "smoke" in config.profiles and len(config.profiles) > 1:
        raise SptError("the smoke profile is a demo, and its numbers are in no table with others: give it alone")
    if sweep_name() is not None:
        raise SptError("a grid is planned as a whole: leave out --multirun, and choose tables with table=[...]")
    for key in ("dry_run", "force"):
        check_flag(key, config[key])
    if config.tflops is not None and not (is_number(config.tflops) and 0 < config.tflops < math.inf):
        raise SptError(f"tflops must be a finite number above 0, not {config.tflops!r}")
    for key in ("output_dir", "results_dir"):
        if not isinstance(config[key], str) or not config[key]:
            raise SptError(f"{key} must be a folder, not {config[key]!r}")
    settle_results_dir(config)
    plan = Plan(config, config_fingerprint)
    costs = Costs(plan.records.finished.values(), config.costs)
    show(plan)
    show_costs(plan, costs, config)
    if config.dry_run:
        return
    from spt.report.write_report import report_records

    whole = report_config(config)
    try:
        run(plan, config.runs_per_gpu)
    finally:
        folder = Path(config.results_dir)
        with written(folder, "or set results_dir"):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder, wait=True):
                plan.read_records()
                plan.publish()
                report_records(whole, config_fingerprint)
    failures = plan.failures()
    if failures:
        raise SptError(f"{len(failures)} runs failed, the others are done:\n  " + "\n  ".join(failures))


def run(plan: "Plan", runs_per_gpu: int) -> None:
    """Run what is missing: first the runs that can start, then the seeds whose learning rate these have chosen.

    Runs that another process is working on are left to it. When nothing else is left, this process waits for them, and
    does those that the other process leaves unfinished.
    """
    from spt.grid.launch_runs import LEFT, launch
    from spt.grid.progress_bars import watching
    from spt.records.fingerprint import folder_of
    from spt.records.folder_lock import await_one

    if not plan.pending():
        return
    with watching(len(plan.missing())) as watched:
        while jobs := plan.pending():
            watched |= {folder_of(plan.config(job)): job.name for job in jobs.values()}
            plan.tried |= jobs.keys()
            messages = launch({key: plan.command(key, job) for key, job in jobs.items()}, plan.output_dir, runs_per_gpu)
            left = {key for key, message in messages.items() if message == LEFT}
            plan.tried -= left
            before = plan.records.finished
            plan.read_records()
            # Runs that have a new record finished before the process that ran them died.
            ended = {
                key
                for key, run in plan.records.finished.items()
                if plan.is_here(run) and (key not in before or run.record != before[key].record)
            }
            plan.errors |= {key: message for key, message in messages.items() if key not in left | ended}
            if left and left == plan.pending().keys():
                await_one([folder_of(plan.config(jobs[key])) for key in left])
                plan.read_records()


def report_config(config: DictConfig) -> DictConfig:
    """The config of the report in results_dir: of the tables and profiles that run and of those it has already.

    Raises:
        SptError: if it has others, whose configs are not found.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import open_dict

    from spt.report.write_report import refuse_to_leave_out, reported

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    here = reported(Path(config.results_dir))
    choices = []
    for group, names in here.items():
        options = hydra.config_loader.get_group_options(group)
        chosen = [name for name in options if name in names | set(config[f"{group}s"])]
        choices.append(f"{group}=[{','.join(chosen)}]")
    whole = compose("report", choices)
    with open_dict(whole):
        whole.results_dir, whole.output_dir = config.results_dir, config.output_dir
        for group in ("tables", "profiles"):
            whole[group] = OmegaConf.merge(whole.get(group) or {}, config[group])
    refuse_to_leave_out(whole, Path(config.results_dir))
    return whole


def config_fingerprint(task: dict[str, Any]) -> str:
    """The fingerprint of the data of a task, from the task's config."""
    from spt.hydra_targets import instantiate
    from spt.tasks.task import data_fingerprint

    return data_fingerprint(instantiate(OmegaConf.create(escaped(task)), _convert_="all").load())


def show(plan: "Plan") -> None:
    """Print the plan as a table."""
    from spt.console import console
    from spt.terminal_table import plain_table, print_table

    table = plain_table()
    for column in ("table", "model", "tasks", "done", "stale", "to\nrun"):
        is_text = column in ("table", "model", "tasks")
        table.add_column(column, no_wrap=column != "tasks", justify="left" if is_text else "right")
    runs = plan.runs_frame()
    for (name, model), part in runs.groupby(["table", "model"], sort=False):
        counts = part[["done", "stale", "to_run"]].sum().astype(str)
        table.add_row(name, model, ", ".join(part.task.unique()), *counts)
    print_table(table)
    if runs.table.nunique() > 1:
        console.print("a run that several tables share counts in the first")


def show_costs(plan: "Plan", costs: "Costs", config: DictConfig) -> None:
    """Print what the missing runs cost: seconds by finished runs like them, floating point operations of the others."""
    from spt.console import console, duration
    from spt.grid.run_costs import run_flops

    missing = [plan.config(job) for job in plan.missing().values()]
    if not missing:
        console.print("nothing to run: every run has its record")
        return
    words, measured = [f"{len(missing)} runs to do"], [costs.by_machine(run) for run in missing]
    for machine in sorted({name for own in measured for name in own}):
        times = [own[machine] for own in measured if machine in own]
        words.append(
            f"{len(times)} of them take about {duration(sum(times))} one after the other, by runs on {machine}"
        )
    others = [run_flops(run, config.costs) for run, own in zip(missing, measured, strict=True) if not own]
    known = [flops for flops in others if flops is not None]
    if known:
        which = "they" if len(known) == len(missing) else f"{len(known)} {'others' if any(measured) else 'of them'}"
        words.append(f"{which} take about {_cost(sum(known), config)}")
    if len(known) < len(others):
        words.append(
            f"no estimate for {len(others) - len(known)}: conf/costs.yaml has no sizes of their encoder or task"
        )
    console.print("; ".join(words))


def _cost(flops: float, config: DictConfig) -> str:
    """Floating point operations in words, and in GPU-hours where the speed of the GPU is given or can be measured.

    It is measured for `dry_run` alone: before real runs it would take memory of the GPU that they need.
    """
    speed = config.tflops
    if speed is None and config.dry_run:
        import torch

        if torch.cuda.is_available():
            from spt.grid.gpu_speed import achieved_tflops

            speed = achieved_tflops()
    operations = f"{flops / 1e15:,.0f} PFLOP" if flops >= 1e16 else f"{flops / 1e12:,.0f} TFLOP"
    if speed is None:
        return f"{operations} (tflops=<what your GPU achieves in training> shows hours)"
    return f"{flops / 1e12 / speed / 3600:,.2f} GPU-hours: {operations} at {speed:.0f} TFLOP/s"


if __name__ == "__main__":
    main()
