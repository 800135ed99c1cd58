"""What `spt.inspect` finds: arrays with named axes, which are the schema of insight.json as well."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, PlainSerializer, ValidationError, model_validator

from spt.errors import SptError
from spt.records.insight_summary import InsightSummary, LayerMeans, rounded
from spt.records.schema import Count, Exact, problems

Axis = Literal["layer", "head", "slot", "other_slot", "matrix"]
LAYER_HEAD: tuple[Axis, ...] = ("layer", "head")
LAYER_HEAD_SLOT: tuple[Axis, ...] = ("layer", "head", "slot")
LAYER_MATRIX: tuple[Axis, ...] = ("layer", "matrix")
MATRICES = ("key", "value")  # along the axis "matrix"


def _numbers(value: Any) -> np.ndarray:
    """A read-only array of finite numbers, from an array or from lists."""
    array = np.asarray(value)  # ValueError if rows differ in length
    if array.dtype.kind not in "iuf":
        raise ValueError("not an array of numbers")
    if not np.isfinite(array).all():
        raise ValueError("not all numbers are finite")
    numbers = array.astype(float)
    numbers.setflags(write=False)
    return numbers


Numbers = Annotated[np.ndarray, BeforeValidator(_numbers), PlainSerializer(np.ndarray.tolist)]


class Part(Exact, arbitrary_types_allowed=True):
    """A part of the result, which may hold arrays."""


class Array(Part):
    """Numbers along named axes.

    `standard_error` has the shape of `values`; it is None for parameters (nothing to resample), and for fewer
    than 30 examples.
    """

    axes: tuple[Axis, ...]
    values: Numbers
    standard_error: Numbers | None = None

    @model_validator(mode="after")
    def _has_its_axes(self) -> "Array":
        if self.values.ndim != len(self.axes):
            raise ValueError(f"an array along {self.axes} cannot have the shape {self.values.shape}")
        if self.standard_error is not None and self.standard_error.shape != self.values.shape:
            raise ValueError("standard_error must have the shape of values")
        return self


class Measure(Array):
    """An array and its means, each with a standard error of its own. `over_heads` is None without an axis of heads."""

    over_heads: Array | None
    over_layers: Array
    overall: Array

    @classmethod
    def of(cls, draws: np.ndarray, axes: tuple[Axis, ...]) -> "Measure":
        """The measure of an array [1 + draws, *axes]: the values, then those of samples drawn anew, if any."""

        def array(values: np.ndarray, left: tuple[Axis, ...]) -> dict[str, Any]:
            error = values[1:].std(axis=0, ddof=1) if len(values) > 2 else None
            return {"axes": left, "values": values[0], "standard_error": error}

        def mean(axis: Axis) -> Array:
            left = tuple(name for name in axes if name != axis)
            return Array(**array(draws.mean(axis=1 + axes.index(axis)), left))

        return cls(
            **array(draws, axes),
            over_heads=mean("head") if "head" in axes else None,
            over_layers=mean("layer"),
            overall=Array(**array(draws.mean(axis=tuple(range(1, draws.ndim))), ())),
        )


class Intervention(Part):
    """The score with a part of the adapter changed, and its difference to the full adapter.

    Attributes:
        kind: "without_slot" (weight 0 in all layers), "without_layer" (no prefix in it), "keep" (in each layer only
            the slots that get most attention), "gate_off" (g = 1), or "gate_fixed" (g is its mean over positions).
        which: the slot or the layer, from 0; for "keep" the number of slots.
        score: on the examples, of `Interventions.metric`.
        difference, low, high: of `Interventions.compared`, this score less the full adapter's, with the limits of its
            95 % interval, by a paired bootstrap over examples.
    """

    kind: Literal["without_slot", "without_layer", "keep", "gate_off", "gate_fixed"]
    which: Count | None
    score: float
    difference: float
    low: float
    high: float


class Interventions(Part):
    """The scores of all interventions, as fractions.

    Attributes:
        metric: of the scores, the task's first one.
        score: the full adapter's, with its attention computed as for the interventions.
        compared: the score whose differences are given: "accuracy" if examples have a class, "f1" for entities, else
            "mean", the mean of one term per example.
        changes: one for each intervention.
    """

    metric: str
    score: float
    compared: Literal["accuracy", "f1", "mean"]
    changes: tuple[Intervention, ...]


class Insight(Part):
    """What the prefixes of an adapter learned. Arrays name their axes; layers, heads and slots count from 0.

    These are two dozen small arrays: an array library with named axes would be a dependency for them alone. s_p, g_p
    and w are those of `spt.modeling.gated_attention`; t is a query position that is not padding (special tokens are
    query positions, too), and N their number. An example's inputs (its choices) count together. Entropies H are
    in nats. Standard errors are by bootstrap over examples.

    Attributes:
        adapter, task, split: what was inspected, on which examples; None for a model without an adapter on disk.
        adapter_sha256: the hash of the adapter's weights; None also in results of earlier versions.
        examples, positions: their number, and N.
        layers, heads, prefix_length, alpha: sizes, and the gate's temperature, or temperatures (None: no gate).
        labels: the labels of `label_information`; None without labels, and for regression.
        cosine: cos(p_i, p_j) of whole slot vectors, [layer, matrix, slot, other_slot]; matrix 0 is keys, 1 is values.
        mean_abs_cosine: mean |cos| over pairs of slots; overall it is the paper's selective loss. [layer, matrix]
        effective_rank: exp of the entropy of the singular values over their sum (Roy and Vetterli, 2007).
        norm_mean, norm_std: mean and standard deviation over slots of the vectors' L2 norm.
        gate_mean: mean of g_p over positions, [layer, head, slot]; None without a gate, as the next four.
        gate_open, gate_closed: share of positions with g_p > 0.9, with g_p < 0.1.
        gate_within: mean over slots of the variance of g_p within an example, between its tokens, [layer, head].
        gate_between: the same of the variance between the means of examples. Both weigh an example by its number of
            positions, so that they add up to the total variance.
        prefix_mass: mean of Σ_p w_p: the share of attention that goes to the prefix, [layer, head].
        slot_share: mean of w_p / Σ_p' w_p', [layer, head, slot].
        slot_information: H(slot) − mean_t H(slot given t): the mutual information of position and slot, from 0 (all
            tokens use the slots alike) to ln P.
        slots_used: exp(H(slot)): how many slots a head uses in all.
        slots_used_at_once: exp(mean_t H(slot given t)): how many it uses at one token.
        label_information: mutual information of slot and gold label, [layer, head]: for token tasks of the entity type
            of tokens with a label, else of the text's class. It is the plug-in estimate less its mean over 20
            permutations of the labels, so that no relation gives about 0. Its standard error takes that mean as fixed.
        interventions: None if they were not asked for.
    """

    format: Literal[1]
    adapter: str | None
    adapter_sha256: str | None = None
    task: str | None
    split: str | None
    examples: Count
    positions: Count
    layers: Count
    heads: Count
    prefix_length: Count
    alpha: float | list[float | list[float]] | None
    labels: tuple[str, ...] | None
    cosine: Array
    mean_abs_cosine: Measure
    effective_rank: Measure
    norm_mean: Measure
    norm_std: Measure
    gate_mean: Measure | None = None
    gate_open: Measure | None = None
    gate_closed: Measure | None = None
    gate_within: Measure | None = None
    gate_between: Measure | None = None
    prefix_mass: Measure
    slot_share: Measure
    slot_information: Measure
    slots_used: Measure
    slots_used_at_once: Measure
    label_information: Measure | None = None
    interventions: Interventions | None

    @model_validator(mode="after")
    def _has_one_size_along_each_axis(self) -> "Insight":
        sizes = {"layer": self.layers, "head": self.heads, "matrix": len(MATRICES)}
        sizes |= dict.fromkeys(("slot", "other_slot"), self.prefix_length)
        for name in type(self).model_fields:
            array = getattr(self, name)
            if isinstance(array, Array) and array.values.shape != tuple(sizes[axis] for axis in array.axes):
                raise ValueError(f"{name} has the shape {array.values.shape} along {array.axes}")
        return self

    def by_layer(self) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """The measures by layer: means over heads and slots, and their standard errors if known, each [layers].

        The names are those of the attributes, with "_keys" and "_values" for the two matrices.
        """
        measures: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        for name in type(self).model_fields:
            if not isinstance(measure := getattr(self, name), Measure):
                continue
            if name == "mean_abs_cosine" and self.prefix_length == 1:  # one slot has no pair
                continue
            if measure.axes == LAYER_MATRIX:
                measures |= {f"{name}_{kind}s": (measure.values[:, i], None) for i, kind in enumerate(MATRICES)}
            elif measure.axes == LAYER_HEAD and measure.over_heads is not None:
                measures[name] = (measure.over_heads.values, measure.over_heads.standard_error)
            elif name != "slot_share":  # whose mean is 1 / P
                measures[name] = (measure.values.mean((1, 2)), None)
        return measures

    def summary(self) -> InsightSummary:
        """What is published with a record: means by layer."""
        kept = ("adapter_sha256", "task", "split", "examples", "layers", "prefix_length")
        return InsightSummary(
            format=1,
            **{name: getattr(self, name) for name in kept},
            measures={
                name: LayerMeans(
                    means=tuple(map(rounded, means)),
                    standard_errors=None if errors is None else tuple(map(rounded, errors)),
                )
                for name, (means, errors) in self.by_layer().items()
            },
        )

    def to_json(self) -> str:
        """The result as JSON: each array with its axes, as nested lists."""
        return self.model_dump_json() + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Insight":
        """The result that `to_json` wrote; SptError if the text is something else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SptError(f"not a result of spt.inspect: {problems(error)}") from error
