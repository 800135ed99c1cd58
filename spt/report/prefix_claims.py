"""What the runs show of the paper's claims: training makes slots alike, the loss keeps them apart, the gate selects."""

from collections.abc import Sequence

from pandas import DataFrame

from spt.report.number_format import number
from spt.report.prefix_frame import COSINE
from spt.report.render_templates import notes

PLACE = ["model", "task", "table", "row", "setting", "value"]
INFORMATION = "slot_information"


def prefix_claims(frame: DataFrame) -> list[str]:
    """A sentence for each claim that runs of the `prefix_frame` of all tables are about."""
    measured = frame[(frame.model != "demo") & frame.measure.isin([COSINE, INFORMATION])]
    if not len(measured):
        return []
    by_run = measured.groupby([*PLACE, "measure", "run"], sort=False).number.mean()
    means = by_run.groupby(level=[*PLACE, "measure"], sort=False).agg(["mean", "count"]).reset_index()
    cosine, information = (means[means.measure == name] for name in (COSINE, INFORMATION))
    return notes(
        "prefix_claims",
        alike=_by_task(cosine, ["spt"]),
        weights=_by_value(cosine, "method.sl_weight"),
        alphas=_by_value(cosine, "method.alpha"),
        choices=_by_task(information, ["ungated", "spt"]),
    )


def _by_task(means: DataFrame, rows: Sequence[str]) -> list[str]:
    """For each model and task that has all of these rows, their means, outside of sweeps: of the table of most runs."""
    claims = []
    plain = means[(means.setting == "") & means.row.isin(rows)].sort_values("count", ascending=False, kind="stable")
    for (model, task), own in plain.groupby(["model", "task"], sort=False):
        by_row = own.drop_duplicates("row").set_index("row")["mean"]
        if all(row in by_row for row in rows):
            claims.append(f"{task} on {model} {' → '.join(number(by_row[row], 3) for row in rows)}")
    return claims


def _by_value(means: DataFrame, setting: str) -> list[str]:
    """For each model, task and row that is swept over a setting, its means by value."""
    swept = means[means.setting == setting].groupby(["model", "task", "row"], sort=False)
    return [f"{task} on {model}, {row}: {_points(own)}" for (model, task, row), own in swept if own.value.nunique() > 1]


def _points(own: DataFrame) -> str:
    return ", ".join(f"{number(mean)} at {value}" for mean, value in zip(own["mean"], own.value, strict=True))
