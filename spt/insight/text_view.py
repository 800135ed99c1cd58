"""What is shown of the attention of a text, in the terminal and on its page: numbers of each token, and colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from spt.insight.text_attention import SequenceAttention

SHOWN = 3  # slots of a token

LEVELS = 20  # of the colour map, between 0 and 1

DARK = 8  # the highest level on which white is easier to read than black


@dataclass(frozen=True)
class SlotShare:
    """The share of a token's attention that goes to a slot of a layer, and the slot's gate (None without one)."""

    layer: int
    slot: int
    share: float
    gate: float | None


@dataclass(frozen=True)
class TokenRow:
    """What a token does: its mean gate, how it divides its attention, and which slots it opens and uses most.

    `opened` are the slots with the highest gates (none without a gate), `used` those that get most attention.
    """

    token: str
    gate: float | None
    prefix: float
    text: float
    opened: tuple[SlotShare, ...]
    used: tuple[SlotShare, ...]


def token_rows(sequence: SequenceAttention, layers: Sequence[int]) -> list[TokenRow]:
    """A row for each token: means over heads, and over the layers that are named."""
    chosen = list(layers)
    weights = sequence.slot_weights[chosen].mean(1)
    gates = None if sequence.gate is None else sequence.gate[chosen].mean(1)
    text = sequence.text_weight[chosen].mean((0, 1))
    rows = []
    for place, token in enumerate(sequence.tokens):
        own, own_gates = weights[:, place], None if gates is None else gates[:, place]
        gate = None if own_gates is None else float(own_gates.mean())
        opened = () if own_gates is None else _most(own_gates, chosen, own, own_gates)
        used = _most(own, chosen, own, own_gates)
        rows.append(TokenRow(token, gate, float(own.sum(-1).mean()), float(text[place]), opened, used))
    return rows


def _most(
    values: np.ndarray, layers: list[int], weights: np.ndarray, gates: np.ndarray | None
) -> tuple[SlotShare, ...]:
    """The slots with the highest of `values`; all arrays are [layers, P]."""
    order = np.argsort(-values, axis=None, kind="stable")[:SHOWN]
    places = [(int(at), int(slot)) for at, slot in zip(*np.unravel_index(order, values.shape), strict=True)]
    return tuple(
        SlotShare(layers[at], slot, float(weights[at, slot]), None if gates is None else float(gates[at, slot]))
        for at, slot in places
    )


def prediction_table(prediction: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """A prediction of `Predictor.stream` in words, and a table of its probabilities: columns and rows."""
    if "entities" in prediction:
        columns = ["type", "text", "start", "end", "probability"]
        rows = [
            [str(each["type"]), each["text"], str(each["start"]), str(each["end"]), _probability(each["probability"])]
            for each in prediction["entities"]
        ]
        return f"{len(rows)} {'entity' if len(rows) == 1 else 'entities'}", columns, rows
    (kind, value), *_ = prediction.items()
    if "probabilities" not in prediction:
        return f"{kind} {value:.4g}", [], []
    probabilities = prediction["probabilities"]
    named = probabilities.items() if isinstance(probabilities, dict) else enumerate(probabilities)
    return f"{kind} {value}", [kind, "probability"], [[str(name), _probability(share)] for name, share in named]


def _probability(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def level(share: float) -> int:
    """The level of the colour of a number from 0 to 1."""
    return round(share * LEVELS)


def colours(at: int) -> tuple[str, str]:
    """Background and text colour of a level; their contrast is at least 4.5."""
    return to_hex(matplotlib.colormaps["viridis"](at / LEVELS)), "#ffffff" if at <= DARK else "#000000"
