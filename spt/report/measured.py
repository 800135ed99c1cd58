"""What the runs of a cell say: a line for each of their numbers, in percent, beside what is published for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from spt.grid.cells import Cell
from spt.grid.match_records import Finished, Result
from spt.numerics import NUMERICS
from spt.recipes import recipe_setting
from spt.report.published import COMPARES_WITH, published, task_config
from spt.report.significance import Summary, summary, tolerance

DEV = ("best_dev", "last_dev")  # of the split that selects; all other quantities are of splits that selected nothing

NAMES = {"best_dev": "Best dev", "last_dev": "Last epoch on dev", "held_out": "Held out", "test": "Test"}

METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "f1a": "F1a",
    "matthews": "Matthews correlation",
    "spearman": "Spearman correlation",
}

COLLAPSED, DIVERGED, DIRTY, OUTDATED, OTHER_DATA = "†", "‡", "§", "¶", "‖"


@dataclass(frozen=True)
class Line:
    """One quantity of a cell.

    Attributes:
        result: the cell and its runs.
        quantity: "best_dev", "last_dev", or a further split's name: its score at the best dev epoch.
        published: what it compares with, in the order of the file: the first stands in the table.
    """

    result: Result
    quantity: str
    published: tuple[dict[str, str], ...]

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.result.cell

    @property
    def metric(self) -> str:
        """The task's headline metric."""
        return headline(self.cell.task)

    @property
    def split(self) -> str:
        """The split that the quantity is of."""
        return "validation" if self.quantity in DEV else self.quantity

    @cached_property
    def examples(self) -> int | None:
        """The number of examples in the split: as the runs had it, else as published."""
        for run in self.result.done.values():
            return run.record["data"]["splits"].get(self.split, {}).get("examples")
        return task_config(self.cell.task)["sizes"].get(self.split)

    @property
    def one_example(self) -> float | None:
        """What one example weighs, in points, where the metric is a share of examples."""
        return 100 / self.examples if self.metric == "accuracy" and self.examples else None

    @cached_property
    def scores(self) -> dict[int, float]:
        """By seed, in percent; without runs that ended before there was one."""
        found = {seed: run.record["metrics"].get(self.quantity) for seed, run in self.result.done.items()}
        return {seed: 100 * score for seed, score in found.items() if score is not None}

    @cached_property
    def ours(self) -> Summary | None:
        """The scores' summary, None where there is none."""
        return summary(list(self.scores.values())) if self.scores else None

    @property
    def delta(self) -> float | None:
        """Ours less the published one."""
        return self.ours.mean - float(self.published[0]["value"]) if self.ours and self.published else None

    @property
    def tolerance(self) -> float | None:
        """Of the difference; see `spt.report.significance.tolerance`."""
        return tolerance(self.ours, self.one_example) if self.ours and self.published else None

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance; None where one of the two is missing."""
        return None if self.delta is None or self.tolerance is None else abs(self.delta) <= self.tolerance

    @property
    def state(self) -> str:
        """A word: done, partly, diverged (no score came of it), failed, published only, not run."""
        if self.result.state in ("done", "partly"):
            return self.result.state if self.scores else "diverged"
        if self.result.state == "not run" and self.published:
            return "published only"
        return self.result.state

    @property
    def marks(self) -> str:
        """What is to be known of the runs behind it, a sign each."""
        return marks(self.result)


def marks(result: Result) -> str:
    """The signs of a cell's runs: one of them collapsed, diverged, or came of a changed working tree, of another
    version of the numerics, or of other data than most runs of the task."""
    records = [run.record for run in result.done.values()]
    found = {
        COLLAPSED: any(record["collapsed"] for record in records),
        DIVERGED: any(record["status"] == "diverged" for record in records),
        DIRTY: any(record["git"]["dirty"] for record in records),
        OUTDATED: any(record["numerics"] != NUMERICS for record in records),
        OTHER_DATA: any(record["data"].get("fingerprint") != result.usual_data for record in records),
    }
    return "".join(sign for sign, there in found.items() if there)


def headline(task: str) -> str:
    """The task's first metric, which selects epochs and stands in the tables."""
    return task_config(task)["metrics"][0]


def scores_of(result: Result, quantity: str) -> dict[int, float]:
    """A cell's scores of one quantity, by seed; empty where it has none."""
    return next((line.scores for line in lines([result]) if line.quantity == quantity), {})


def lines(results: Iterable[Result]) -> list[Line]:
    """All lines of all cells, in the order of the cells."""
    return [line for result in results for line in _lines(result)]


def _lines(result: Result) -> list[Line]:
    rows: dict[str, list[dict[str, str]]] = {}
    for row in published_for(result.cell):
        rows.setdefault(COMPARES_WITH[row["split"], row["selection"]], []).append(row)
    return [Line(result, name, tuple(rows.get(name, ()))) for name in quantities(result, rows)]


def quantities(result: Result, expected: Iterable[str] = ()) -> list[str]:
    """The names of what the runs of a cell give, or would give: dev first, test last."""
    task = task_config(result.cell.task)
    further = [name for name in (*expected, *task["sizes"]) if name not in (*DEV, "train", "validation")]
    if task["_target_"].endswith(".TokenTask"):  # of the others no test labels are public
        further.append("test")
    if any(override.startswith("task.held_out=") for override in result.cell.overrides):
        further.append("held_out")
    for run in result.done.values():
        further += [name for name, score in run.record["metrics"].items() if name not in DEV and score is not None]
    return [*DEV, *sorted(set(further), key=lambda name: (name == "test", name))]


def published_for(cell: Cell) -> list[dict[str, str]]:
    """The published rows of the cell's headline metric; at a point of a sweep, where their recipe has its value."""
    rows = [row for row in published(cell.task, cell.model, cell.row) if row["metric"] == headline(cell.task)]
    if cell.point is not None:
        key, value = cell.point
        rows = [row for row in rows if recipe_setting(f"{row['method']}/{cell.task}/{cell.model}", key) == value]
    return rows


def unselected(names: Sequence[str]) -> str:
    """Of the names of quantities the one to compare methods by: of a split that selected nothing where there is one."""
    further = [name for name in names if name not in DEV]
    return "test" if "test" in further else further[0] if further else "best_dev"


@dataclass(frozen=True)
class Cost:
    """What the runs of a cell took.

    Attributes:
        parameters, memory, adapter: the largest of the runs: trained numbers, bytes at peak, bytes of the adapter.
        seconds: over the runs.
        hardware: where they ran.
    """

    parameters: int
    seconds: Summary
    memory: int
    adapter: int | None
    hardware: str


def cost(runs: Iterable[Finished]) -> Cost | None:
    """The cost of some runs, None of none."""
    records = [run.record for run in runs]
    if not records:
        return None
    sizes = [record["adapter_bytes"] for record in records if record["adapter_bytes"] is not None]
    return Cost(
        parameters=max(record["trainable_parameters"] for record in records),
        seconds=summary([record["wall_seconds"] for record in records]),
        memory=max(record["peak_memory_bytes"] for record in records),
        adapter=max(sizes) if sizes else None,
        hardware="; ".join(sorted({hardware(record) for record in records})),
    )


def hardware(record: dict[str, Any]) -> str:
    """The machine in words."""
    machine = record["hardware"]
    threads = f"{machine['threads']} thread" + ("s" if machine["threads"] != 1 else "")
    processor = f"{machine['processor'] or 'unknown processor'}, {threads} of {machine['cores']} cores"
    if machine["accelerator"] is None:
        return f"{processor}, {machine['system']}"
    return f"{machine['accelerators']} x {machine['accelerator']} ({processor}, {machine['system']})"
