"""A summary of what `spt.inspect` found, of a few KB, which is published with a record as insight.json."""

from typing import Any, Literal

from pydantic import model_validator

from spt.records.schema import Count, Exact

INSIGHT = "insight.json"
DIGITS = 6  # significant ones of every number


class LayerMeans(Exact):
    """A measure by layer, its means over heads and slots, and their standard errors where there are any."""

    means: tuple[float, ...]
    standard_errors: tuple[float, ...] | None


class InsightSummary(Exact):
    """The file. Its measures have the names of `spt.insight.result.Insight`; of keys and of values, "..._keys"."""

    format: Literal[1]
    adapter_sha256: str | None
    task: str | None
    split: str | None
    examples: Count
    layers: Count
    prefix_length: Count
    measures: dict[str, LayerMeans]
    interventions: Any = None  # in files of earlier versions, which no table has

    @model_validator(mode="after")
    def _has_a_mean_for_each_layer(self) -> "InsightSummary":
        for name, measure in self.measures.items():
            if {len(measure.means), len(measure.standard_errors or measure.means)} != {self.layers}:
                raise ValueError(f"{name} must have {self.layers} layers")
        return self

    def to_json(self) -> str:
        """The summary as JSON."""
        return self.model_dump_json() + "\n"


def rounded(number: float) -> float:
    """A number with `DIGITS` significant digits."""
    return float(f"{number:.{DIGITS}g}")
