"""Where the numbers of a cell come from: `python -m spt.report cell=superglue/cb/minilm/spt`."""

import shlex
from collections.abc import Iterable

from spt.errors import SptError, nearest
from spt.grid.cells import Cell, Job
from spt.grid.match_records import Result
from spt.path_overrides import own_config_dir
from spt.report.render_templates import ENVIRONMENT
from spt.report.runs_frame import hardware
from spt.report.seed_means import metric_of, published_for

PARTS = ("table", "task", "model", "row", "the swept value")


def trace(result: Result) -> str:
    """The runs of a cell with everything that made them, or the commands for missing ones; a fact per line."""
    command = ["python", "-m", "spt.train", *own_config_dir()]
    jobs = [
        {
            "seed": seed,
            "is_trial": not result.is_decided or rate != result.learning_rate,
            "run": run,
            "hardware": run and hardware(run.record),
            "error": result.failures.get((seed, rate)),
            "command": shlex.join([*command, *Job(result.cell, seed, rate).overrides]),
        }
        for (seed, rate), run in result.by_job.items()
    ]
    template = ENVIRONMENT.get_template("cell.txt.j2")
    return template.render(
        result=result, cell=result.cell, published=published_for(result.cell, metric_of(result)), jobs=jobs
    )


def select(cells: Iterable[Cell], name: str, profiles: Iterable[str]) -> list[Cell]:
    """The cells of a name, one per profile.

    Raises:
        SptError: if there is none. The message names what is unknown in it, and what is allowed.
    """
    every = list(cells)
    if chosen := [cell for cell in every if cell.name == name]:
        return chosen
    hint = _hint(name, [cell.name for cell in every])
    raise SptError(f"unknown cell {name!r} of profile {', '.join(profiles)}: {hint}")


def _hint(name: str, names: Iterable[str]) -> str:
    """Which part of a cell's name is unknown, and what it can be."""
    parts, candidates, known = [*name.split("/"), ""], [name.split("/") for name in names], list[str]()
    while parts[0] in (following := {candidate[0] for candidate in candidates if candidate}):
        known.append(parts.pop(0))
        candidates = [candidate[1:] for candidate in candidates if candidate[:1] == known[-1:]]
    if not following:
        return f"did you mean {'/'.join(known)!r}?"
    place = f"after {'/'.join(known)}/ comes {PARTS[len(known)]}" if known else "table/task/model/row"
    return f"{place}: {nearest(parts[0], following)}"
