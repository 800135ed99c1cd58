"""The result as JSON: the same after a round trip, and nothing else is taken for one."""

import json

import numpy as np
import pytest

import spt
from spt.insight.inspect_adapter import inspect
from spt.insight.result import Insight
from tests.insight.test_measures import batches_of, model_of


@pytest.fixture(scope="module")
def found():
    return inspect(model_of(), batches_of("sentence") * 5, split="dev")


def test_json_keeps_every_number(found):
    again = Insight.from_json(found.to_json())
    assert (again.split, again.examples, again.labels) == ("dev", 30, ("0", "1", "2"))
    for name in ("cosine", "gate_mean", "label_information", "effective_rank"):
        own, other = getattr(found, name), getattr(again, name)
        assert own.axes == other.axes and np.array_equal(own.values, other.values)
    assert np.array_equal(found.prefix_mass.standard_error, again.prefix_mass.standard_error)
    assert again.to_json() == found.to_json()
    written = json.loads(found.to_json())
    assert written["slot_share"]["axes"] == ["layer", "head", "slot"]
    assert written["slot_share"]["over_layers"]["axes"] == ["head", "slot"]
    with pytest.raises(ValueError):
        found.examples = 3


DAMAGES = {
    "another format": lambda d: d.update(format=2),
    "no format": lambda d: d.pop("format"),
    "an unknown name": lambda d: d.update(extra=1),
    "a measure less": lambda d: d.pop("slot_share"),
    "rows of different lengths": lambda d: d["prefix_mass"]["values"][0].pop(),
    "text for a number": lambda d: d["prefix_mass"]["values"][0].__setitem__(0, "1"),
    "null for a number": lambda d: d["prefix_mass"]["values"][0].__setitem__(0, None),
    "an unknown axis": lambda d: d["prefix_mass"].update(axes=["layer", "heads"]),
    "an axis less": lambda d: d["prefix_mass"].update(axes=["layer"]),
    "errors of another shape": lambda d: d["prefix_mass"].update(standard_error=[1.0]),
    "fewer heads than it says": lambda d: d.update(heads=3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_another_file_is_refused(damage, found):
    written = json.loads(found.to_json())
    DAMAGES[damage](written)
    with pytest.raises(spt.SptError, match="not a result of spt.inspect"):
        Insight.from_json(json.dumps(written))


@pytest.mark.parametrize("text", ["", "{", "[]", "NaN"])
def test_other_text_is_refused(text):
    with pytest.raises(spt.SptError, match="not a result of spt.inspect"):
        Insight.from_json(text)
