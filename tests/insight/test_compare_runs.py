"""Several runs side by side: groups, means over seeds, and the tidy file."""

import csv
import io

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t

import spt
from spt.adapters.format import RunDescription
from spt.insight.compare_runs import comparison_frame, comparison_tables, group_names, mean_and_interval
from spt.insight.inspect_adapter import inspect
from spt.insight.summary_rows import HEADINGS
from tests.insight.test_measures import batches_of, model_of


def about(seed, data_dir="here", pruned=None, weights="tiny", **method):
    trainer = {"learning_rate": 0.1}
    training = {"command": "train", "seed": seed, "trainer": trainer, "epoch": 1, "data": {}}
    description = {
        "task": {"name": "pair", "data_dir": data_dir},
        "model": {"name": "tiny", "name_or_path": f"{data_dir}/{weights}"},
        "method": {"name": "spt", "prefix_length": 3, **method},
        "training": training | {"scores": {"accuracy": seed / 100, "f1": 0.0}},
    }
    return RunDescription.model_validate(description | ({} if pruned is None else {"pruned": pruned}))


@pytest.fixture(scope="module")
def insights():
    """With a gate, without one, and of three layers."""
    return [inspect(model, batches_of("sentence")) for model in (model_of(), model_of(alpha=None), model_of("ALBERT"))]


@pytest.fixture(scope="module")
def frame(insights):
    gate, plain, three = insights
    runs = [
        ("a", about(11, alpha=8.0), gate),
        ("b", about(12, "elsewhere", alpha=8.0), three),
        ("c", about(11, alpha=None), plain),
    ]
    return comparison_frame(runs)


def test_runs_that_differ_in_the_seed_alone_are_a_group(frame):
    assert frame.groupby("run").group.first().to_dict() == {"a": 1, "b": 1, "c": 2}
    assert list(frame.columns) == [
        *("run", "group", "seed", "task", "model", "method", "method.alpha", "measure", "layer", "value")
    ]
    assert {*frame["method.alpha"]} == {"8", ""} and {*frame.seed} == {11, 12}


def test_other_data_is_another_group(insights):
    runs = [(name, about(seed), insights[0]) for name, seed in (("a", 11), ("b", 12))]
    for (_, each, _), data in zip(runs, ("x", "y"), strict=True):
        each.training.data["train"] = data
    assert {*comparison_frame(runs).group} == {1, 2}
    for _, each, _ in runs:
        each.task["train_examples"] = 50  # which the seed draws
    assert {*comparison_frame(runs).group} == {1}


def test_a_pruned_adapter_is_another_group(insights):
    pruning = {"source": "a", "sha256": "", "prefix_length": 3, "keep": 2, "split": "train", "slots": [], "scores": {}}
    runs = [("a", about(11), insights[0]), ("b", about(11, pruned=pruning), insights[0])]
    frame = comparison_frame(runs)
    assert {*frame.group} == {1, 2} and {*frame.keep} == {"", "2"}


def test_another_base_model_of_the_same_name_is_another_group(insights):
    runs = [("a", about(11), insights[0]), ("b", about(12, weights="other"), insights[0])]
    frame = comparison_frame(runs)
    assert {*frame.group} == {1, 2} and {*frame["model.other_weights"]} == {"", "other"}


def test_groups_are_called_by_what_differs(frame, insights):
    assert group_names(frame) == {"a": "spt, alpha 8 (seed 11)", "c": "spt, alpha none (seed 11)"}
    other = about(11)
    other.model |= {"name": "large", "name_or_path": "here/large"}
    models = comparison_frame([("a", about(11), insights[0]), ("b", other, insights[0])])
    assert group_names(models) == {"a": "tiny, spt (seed 11)", "b": "large, spt (seed 11)"}


def test_the_values_are_those_of_the_insights(frame, insights):
    for name, insight in zip("abc", (insights[0], insights[2], insights[1]), strict=True):
        own = frame[frame.run == name].set_index(["measure", "layer"]).value
        assert own["mean_abs_cosine_values", "1"] == insight.mean_abs_cosine.values[1, 1]
        assert own["effective_rank_keys", "mean"] == pytest.approx(insight.effective_rank.over_layers.values[0])
        assert own["prefix_mass", "0"] == pytest.approx(insight.prefix_mass.over_heads.values[0])
        assert own["slot_information", "mean"] == pytest.approx(insight.slot_information.overall.values)
        assert ("gate_mean" in own) == (insight.gate_mean is not None)
        if insight.gate_mean is not None:
            assert own["gate_mean", "mean"] == pytest.approx(insight.gate_mean.overall.values)
    assert frame[frame.measure == "dev_accuracy"].value.tolist() == [0.11, 0.12, 0.11]


def test_the_tables_have_a_row_for_each_group(frame):
    tables = list(comparison_tables(frame))
    assert len(tables) == 2 + len(HEADINGS)
    console = Console(width=250, file=io.StringIO())
    console.print(*tables)
    text = console.file.getvalue()
    masses = frame[(frame.measure == "prefix_mass") & (frame.layer == "mean") & (frame.group == 1)].value
    half = t.ppf(0.975, 1) * masses.std() / np.sqrt(2)
    assert f"{masses.mean():.3f} ± {half:.3f}" in text and f"{masses.mean():.3f}" in text
    assert [table.row_count for table in tables] == [2] * len(tables)


def test_one_seed_has_no_interval(frame):
    values = frame[frame.measure == "dev_accuracy"].value
    assert mean_and_interval(values[:1]) == "0.110"
    assert mean_and_interval(values[:2]) == f"0.115 ± {t.ppf(0.975, 1) * 0.005:.3f}"


def test_what_cannot_be_compared_is_refused(insights):
    early = about(11).model_copy(update={"training": None})
    with pytest.raises(spt.SptError, match="does not say how it was trained"):
        comparison_frame([("a", early, insights[0])])


def test_the_frame_is_written_as_it_is_read(frame):
    rows = list(csv.DictReader(io.StringIO(frame.to_csv(index=False))))
    assert len(rows) == len(frame) and [float(row["value"]) for row in rows] == frame.value.tolist()
