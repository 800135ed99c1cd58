"""What the report says of the prefixes: similarity from histories, attention from summaries of insights."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from spt.errors import SptError
from spt.grid.copy_records import publish
from spt.grid.match_records import Finished
from spt.insight.inspect_adapter import inspect
from spt.insight.interventions import changes, scored_interventions
from spt.records.insight_summary import InsightSummary
from spt.records.schema import read_record
from tests.insight.test_measures import batches_of, model_of
from tests.report.test_report import Made, outcomes

SPT, SPT_SL = "ablation/rte/bert-base-cased/spt", "ablation/rte/bert-base-cased/spt_sl"


def similarity(cosine: float) -> dict[str, dict[str, list[float]]]:
    """As a history has it, of two layers: values are half as alike as keys."""
    return {
        "mean_abs_cosine": {"key": [cosine, cosine + 0.1], "value": [cosine / 2] * 2},
        "effective_rank": {"key": [10.0, 14.0], "value": [18.0, 19.0]},
        "norm": {"key": [1.0, 1.0], "value": [1.0, 1.0]},
    }


def with_history(folder: Path, cosine: float, best_epoch: int = 2) -> None:
    rows = [{"epoch": epoch, "prefixes": similarity(cosine if epoch == best_epoch else 0.9)} for epoch in range(4)]
    for epoch in rows[1:]:
        epoch["dev_accuracy"] = 0.5
    (folder / "history.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(record | {"best_epoch": best_epoch}))


@pytest.fixture(scope="module")
def insight():
    """Of a model of two layers and three slots, with interventions."""
    model = model_of()
    found = inspect(model, batches_of("sentence") * 5, split="validation")
    scored = scored_interventions(model, "accuracy", list(changes(found)), lambda: (0.5, [1, 0]), lambda: None)
    return found.model_copy(update={"interventions": scored, "adapter_sha256": "abc"})


@pytest.fixture(scope="module")
def made(demo, tmp_path_factory, insight):
    """A sweep over the selective loss and an ablation, with similarities; one run was inspected."""
    made = Made(demo, tmp_path_factory.mktemp("prefixes"), "table=[sl_weight,ablation]", "profile=paper")
    for weight, cosine in (("0.0", 0.7), ("1.0", 0.1)):
        for seed in (11, 12):
            folder = made.run(f"sl_weight/rte/bert-base-cased/spt_sl/{weight}", seed, outcomes(190 + seed))
            with_history(folder, cosine + 0.02 * (seed - 11))
    for cell, cosine in ((SPT_SL, 0.2), (SPT, 0.6)):
        with_history(folder := made.run(cell, 11, outcomes(200)), cosine)
    (folder / "insight.json").write_text(insight.summary().to_json())
    return made


@pytest.fixture(scope="module")
def texts(made):
    return made.report()


def test_a_sweep_has_similarity_beside_the_score(texts):
    text = texts["README.md"].partition("## What the prefixes learned")[2]
    lines = [line for line in text.splitlines() if line.startswith("| bert-base-cased | rte | spt_sl | 0.0")]
    assert len(lines) == 1
    cells = lines[0].strip("| ").split(" | ")
    assert cells[4:6] == ["Best dev", "72.74 ± 0.26 (2)"]
    assert cells[6:8] == ["0.760 ± 0.014", "0.355 ± 0.007"] and cells[8:] == ["12.000 ± 0.000", "18.500 ± 0.000"]
    page = texts["tables/sl_weight.md"].partition("## What the prefixes learned")[2]
    assert lines[0] in page and "mean |cos|" in page.replace("\\", "") and "Attention to the slots" not in page
    assert "figures/sl_weight.rte.bert-base-cased.prefixes.svg" in texts
    figures = texts["README.md"].partition("## Figures")[2]
    assert "sensitivity.svg" in figures and "prefixes.svg" not in figures
    assert "(figures/sl_weight.rte.bert-base-cased.prefixes.svg)" in text


def test_every_layer_of_every_run_is_in_the_csv(texts):
    lines = list(csv.DictReader(texts["tables/sl_weight.prefixes.csv"].splitlines()))
    assert len(lines) == 2 * 2 * 2 * 2 * 2  # weights, seeds, measures, matrices, layers
    keys = [each for each in lines if (each["measure"], each["matrix"]) == ("mean_abs_cosine", "key")]
    assert [(each["value"], each["seed"], each["layer"], each["number"]) for each in keys[:3]] == [
        *(("0.0", "11", "0", "0.7"), ("0.0", "11", "1", "0.8"), ("0.0", "12", "0", "0.72")),
    ]
    assert {each["table"] for each in lines} == {"sl_weight"} and {each["setting"] for each in lines} == {
        "method.sl_weight"
    }


def test_an_ablation_has_a_row_each_and_what_was_inspected(texts, insight):
    text = texts["tables/ablation.md"].partition("## What the prefixes learned")[2]
    alike, attention = text.split("### Attention to the slots")
    assert "| bert-base-cased | rte | spt | Best dev | 72.20 (1) | 0.650 | 0.300 | 12.000 | 18.500 |" in alike
    means = insight.prefix_mass.over_heads.values
    line = f"| bert-base-cased | rte | spt | attention to the prefix | 1 | {means[0]:.3f} | {means[1]:.3f} |"
    assert f"{line} {means.mean():.3f} |" in attention
    assert "slot information, nats" in attention and "label information, nats" in attention
    assert "figures/ablation.rte.bert-base-cased.prefixes.svg" in texts
    lines = csv.DictReader(texts["tables/ablation.prefixes.csv"].splitlines())
    assert {each["measure"] for each in lines} >= {"prefix_mass", "slot_information", "effective_rank"}


def test_the_claims_of_the_paper_are_answered_by_numbers(demo, tmp_path, insight, texts):
    text = " ".join(texts["README.md"].partition("## What the prefixes learned")[2].split())
    assert "spt's slots (0: orthogonal, 1: parallel): rte on bert-base-cased 0.475." in text
    assert "Mean |cos| by λ: rte on bert-base-cased, spt_sl: 0.56 at 0.0, 0.11 at 1.0." in text
    assert "by α" not in text and "ungated → spt" not in text
    made = Made(demo, tmp_path, "table=ablation", "profile=cpu")
    for row in ("ungated", "spt"):
        folder = made.run(f"ablation/conll04/minilm/{row}", 11, outcomes(9, 10), "test")
        (folder / "insight.json").write_text(insight.summary().to_json())
    means = insight.slot_information.over_heads.values
    claim = f"ungated → spt: conll04 on minilm {means.mean():.3f} → {means.mean():.3f}."
    assert claim in " ".join(made.report()["README.md"].split())


def test_a_single_slot_has_no_pairs(demo, tmp_path):
    """Its mean |cos| is not 0 but none; score and effective rank are shown."""
    made = Made(demo, tmp_path, "table=prefix_length", "profile=cpu")
    for length in (1, 5):
        with_history(made.run(f"prefix_length/conll04/minilm/spt_sl/{length}", 11, outcomes(9, 10), "test"), 0.0)
    texts = made.report()
    assert "| spt_sl | 1 | Test | 90.00 (1) | none | none | 12.000 | 18.500 |" in texts["tables/prefix_length.md"]
    assert "| spt_sl | 5 | Test | 90.00 (1) | 0.050 | 0.000 | 12.000 | 18.500 |" in texts["tables/prefix_length.md"]
    assert "figures/prefix_length.conll04.minilm.prefixes.svg" in texts


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(made, texts):
    before = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    assert made.report() == texts
    assert {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()} == before


def test_tables_without_such_numbers_have_no_section(demo, tmp_path):
    made = Made(demo, tmp_path, "table=sl_weight", "profile=paper")
    made.run("sl_weight/rte/bert-base-cased/spt_sl/0.0", 11, outcomes(190))
    made.run(
        *("sl_weight/rte/bert-base-cased/spt_sl/1.0", 11, outcomes(0)),
        **{
            "status": "diverged",
            "warnings": ["nan"],
            "best_epoch": None,
            "metrics": {"best_dev": None, "last_dev": None},
        },
    )
    texts = made.report()
    assert not any("prefixes" in name for name in texts)
    assert not any("What the prefixes learned" in text for text in texts.values())


def test_a_summary_is_small_and_has_the_means_of_layers(insight):
    summary = insight.summary()
    text = summary.to_json()
    assert InsightSummary.model_validate_json(text) == summary and len(text) < 5000
    mass = summary.measures["prefix_mass"]
    assert mass.means == pytest.approx(insight.prefix_mass.over_heads.values, rel=1e-5)
    assert mass.standard_errors == pytest.approx(insight.prefix_mass.over_heads.standard_error, rel=1e-5)
    keys = summary.measures["mean_abs_cosine_keys"]
    assert keys.means == pytest.approx(insight.mean_abs_cosine.values[:, 0], rel=1e-5) and keys.standard_errors is None
    assert np.allclose(summary.measures["gate_mean"].means, insight.gate_mean.values.mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(format=2),
        lambda d: d.update(extra=1),
        lambda d: d["measures"]["prefix_mass"]["means"].pop(),
        lambda d: d["measures"]["prefix_mass"]["means"].__setitem__(0, "1"),
    ],
)
def test_another_file_is_no_summary(damage, insight):
    data = json.loads(insight.summary().to_json())
    damage(data)
    with pytest.raises(ValidationError):
        InsightSummary.model_validate_json(json.dumps(data))


def test_publishing_copies_the_summary_of_the_run_s_own_adapter(demo, tmp_path, insight):
    shutil.copytree(demo, run := tmp_path / "runs" / demo.name)
    records = tmp_path / "records"
    published = records / demo.name / "insight.json"

    def publish_it(folder: Path = run) -> bool:
        publish(Finished(read_record(folder / "record.json"), folder), records)
        return published.exists()

    assert not publish_it()
    (run / "insight").mkdir()
    (run / "insight/insight.json").write_text(insight.to_json())
    assert not publish_it()  # of another adapter
    sha256 = json.loads((run / "adapter/adapter.json").read_text())["sha256"]
    own = insight.model_copy(update={"adapter_sha256": sha256})
    (run / "insight/insight.json").write_text(own.to_json())
    assert publish_it() and published.read_text() == own.summary().to_json()
    assert publish_it(records / demo.name)  # a published run stays as it is
    published.write_text("{")
    with pytest.raises(SptError, match="records.*insight.json cannot be read .*: delete it"):
        publish_it(records / demo.name)
    (run / "insight/insight.json").write_text("{")
    with pytest.raises(SptError, match="insight.json cannot be read .*: delete it, or inspect the run again"):
        publish_it()
    (run / "insight/insight.json").unlink()
    assert publish_it()  # the same run, whose folder was tidied
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(record | {"wall_seconds": 1.5}))
    assert not publish_it()  # it was trained again
    assert math.isfinite(own.summary().measures["prefix_mass"].means[0])
