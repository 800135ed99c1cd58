"""What `spt.inspect` leaves: insight.json, insight.html, and the figures in a folder beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spt.figure_style import figure_files
from spt.files import parsed, write_atomically
from spt.insight.figures import NAMES, compared_cosines, drawings
from spt.insight.pages import insight_page
from spt.insight.result import Insight
from spt.records.schema import HISTORY

RESULT, PAGE, TEXT_PAGE, FIGURES = "insight.json", "insight.html", "text.html", "figures"

KINDS = ("svg", "png", "pdf")

COMPARISON = "insight_comparison"


def write_comparison(folder: Path, csv: str, insights: Mapping[str, Insight]) -> None:
    """Write the measures of several runs, and the cosines of their slots side by side.

    Args:
        folder: where to; it is made if need be.
        csv: the `comparison_frame` as CSV.
        insights: one run of each group, by what it is called in the figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{COMPARISON}.csv", csv)
    for name, draw in compared_cosines(insights).items():
        for file, content in figure_files(f"{COMPARISON}.{name}", draw, KINDS).items():
            write_atomically(folder / file, content)


def write_insight(folder: Path, insight: Insight, run: Path) -> None:
    """Write the files of an insight. Figures of an earlier one that this one does not have are deleted.

    Args:
        folder: where to; it is made if need be.
        insight: the result of `spt.inspect`.
        run: the folder of the run, whose history has the similarity of slots over the training; it may have none.
    """
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / RESULT, insight.to_json())
    drawn: dict[str, bytes] = {}
    for name, draw in drawings(insight, similarity_by_epoch(run)).items():
        drawn |= figure_files(name, draw, KINDS)
    for name, content in drawn.items():
        write_atomically(figures / name, content)
    for name in {f"{name}.{kind}" for name in NAMES for kind in KINDS} - drawn.keys():
        (figures / name).unlink(missing_ok=True)
    svg = {Path(name).stem: content for name, content in drawn.items() if name.endswith(".svg")}
    write_atomically(folder / PAGE, insight_page(insight, svg))


def similarity_by_epoch(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's history with `prefixes`, the similarity of its slots; epoch 0 is the initialisation."""
    path = run / HISTORY
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    rows = [parsed(line) for line in text.rpartition("\n")[0].splitlines()]  # the last may be half a line
    return [row for row in rows if "prefixes" in row]
