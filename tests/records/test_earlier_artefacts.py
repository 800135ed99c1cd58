"""Runs, adapters and records made before the package had folders (commit 0509e0a) still load, evaluate and report."""

import json
import shutil

import pytest

import spt
from spt.numerics_version import NUMERICS
from spt.records.schema import SCHEMA, read_record
from spt.training.checkpoint import read_checkpoint
from tests.conftest import REPO

BEFORE = REPO / "tests" / "fixtures" / "before"
RUNS = {path.name.split(".")[0]: path for path in (BEFORE / "runs").iterdir()}
SCORED = {"demo_ner": "f1 35.52", "demo_choice": "accuracy 0.00", "wsc": "accuracy 50.00"}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A copy of the runs, because commands write into their folder."""
    monkeypatch.chdir(REPO)  # one of them names its data relative to the repository
    shutil.copytree(BEFORE / "runs", tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("task", SCORED)
def test_an_adapter_predicts_and_scores_as_recorded(task, runs, called):
    folder = runs / RUNS[task].name
    predictor = spt.load(folder)
    example = json.loads((folder / "adapter" / "adapter.json").read_text())["about"]["input"]
    assert len(list(predictor.stream([tuple(example) if isinstance(example, list) else example]))) == 1
    code, out, err = called("spt.evaluate", f"run={folder}")
    assert code == 0 and SCORED[task] in out and "the recorded scores exactly" in out, err


def test_an_adapter_is_loaded_into_a_model_built_by_hand(runs):
    folder = runs / RUNS["demo_ner"].name / "adapter"
    predictor = spt.load(folder)
    model = spt.TaskModel(spt.detach(predictor.model.encoder), "token", len(predictor.task.classes))
    assert spt.attached(spt.load_adapter(model, folder)).prefix_length == 20


def test_records_are_migrated_and_listed(runs, called):
    for task in SCORED:
        record = read_record(runs / RUNS[task].name / "record.json")
        assert record["schema"] == SCHEMA and record["numerics"] == 0 != NUMERICS and record["status"] == "finished"
        assert "code" not in record and "packed" not in record
    code, out, err = called("spt.runs", f"output_dir={runs}")
    assert code == 0 and all(task in out for task in SCORED), err


def test_a_checkpoint_of_an_earlier_version_is_refused():
    folder = RUNS["demo_pair"]
    with pytest.raises(spt.SptError, match="checkpoint.safetensors is damaged, or of another version of spt"):
        read_checkpoint(folder / "checkpoint.safetensors", folder.name.rpartition(".")[2])
