"""`python -m spt.inspect` and `spt.inspect`, from a trained run to the file."""

import csv
import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

import spt
from spt.insight.figures import NAMES
from spt.insight.result import Insight
from spt.train import main as train_command
from tests.conftest import run
from tests.insight.test_figures import parsed


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data) -> dict[str, Path]:
    """Runs of a few steps, by method."""
    folder = tmp_path_factory.mktemp("insight")
    few = ["model=demo", "trainer.max_steps=3", f"output_dir={folder}"]
    ner, pair = (["task=" + task, f"task.data_dir={data}/{task}"] for task in ("demo_ner", "demo_pair"))
    for settings in (
        [*ner, "method=spt", "method.prefix_length=3", "trainer.bf16=true"],
        [*pair, "method=p_tuning_v2", "method.prefix_length=2", "method.projection=8"],
        [*pair, "method=linear_probe"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["spt.train", *few, *settings])
            train_command()
    return {path.parent.name.split(".")[2]: path.parent for path in folder.glob("*/record.json")}


@pytest.fixture
def command(called):
    """The command in this process; returns (exit code, standard output, standard error)."""
    return partial(called, "spt.inspect")


def test_a_run(runs, command, undrawn):
    code, out, err = command(f"run={runs['spt']}")
    assert code == 0 and "32 examples" in out and "slot" in out, err
    found = Insight.from_json((runs["spt"] / "insight/insight.json").read_text())
    assert (found.task, found.split, found.examples, found.prefix_length) == ("demo_ner", "validation", 32, 3)
    assert found.labels == ("O", *spt.load(runs["spt"]).task.labels) and found.alpha == 8.0
    changes = found.interventions
    assert (changes.metric, changes.compared) == ("f1", "f1")
    kinds = [(each.kind, each.which) for each in changes.changes]
    assert kinds[:3] == [("without_slot", slot) for slot in range(3)]
    assert kinds[-6:] == [*(("keep", count) for count in (0, 1, 2, 3)), ("gate_off", None), ("gate_fixed", None)]
    for each in changes.changes:
        assert each.difference == pytest.approx(each.score - changes.score)
        assert each.low - 1e-9 <= each.difference <= each.high + 1e-9
    assert changes.changes[-3].difference == 0  # all slots kept
    record = json.loads((runs["spt"] / "record.json").read_text())
    assert changes.score == pytest.approx(record["metrics"]["best_dev"], abs=0.02)
    assert all(f"{change.score * 100:.2f}" in out for change in changes.changes)
    assert f"{found.prefix_mass.values[0].mean():.3f}" in out
    drawn = {path.name for path in (runs["spt"] / "insight/figures").iterdir()}
    assert drawn == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png", "pdf")}
    page = parsed((runs["spt"] / "insight/insight.html").read_text()).text
    assert f"{found.prefix_mass.overall.values:.3f}" in page and f"{changes.changes[0].score * 100:.2f}" in page


def test_prefixes_without_a_gate_and_the_places_of_results(runs, command, undrawn, tmp_path):
    shutil.copytree(runs["p_tuning_v2"] / "adapter", tmp_path / "copied/adapter_of_mine")
    for arguments, place in (
        ([f"run={runs['p_tuning_v2']}/adapter"], runs["p_tuning_v2"] / "insight"),
        ([f"run={tmp_path}/copied/adapter_of_mine"], tmp_path / "copied/insight"),
        ([f"run={runs['p_tuning_v2']}", f"output={tmp_path}/new/place"], tmp_path / "new/place"),
    ):
        code, out, err = command(*arguments, "interventions=false", "split=train", "batch_size=5")
        assert code == 0 and str(place) in out, err
        found = Insight.from_json((place / "insight.json").read_text())
        assert found.split == "train" and found.gate_mean is found.alpha is found.interventions is None
        assert found.label_information.standard_error is not None


@pytest.mark.slow
def test_several_runs_are_compared(runs, command, tmp_path, monkeypatch):
    shutil.copytree(runs["p_tuning_v2"], tmp_path / "again")
    shutil.rmtree(tmp_path / "again/insight", ignore_errors=True)
    compared = [runs["spt"], runs["p_tuning_v2"], tmp_path / "again"]
    arguments = [f"run=[{','.join(map(str, compared))}]", "interventions=false", f"output={tmp_path}/out"]
    code, out, err = command(*arguments)
    assert code == 0 and str(tmp_path / "again/insight/insight.json") in out and "3 runs" in out, err
    names = {f"insight_comparison.cosine_{kind}.{end}" for kind in ("key", "value") for end in ("svg", "png", "pdf")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"insight_comparison.csv", *names}
    rows = list(csv.DictReader((tmp_path / "out/insight_comparison.csv").open()))
    assert {row["run"] for row in rows} == {*map(str, compared)} and {row["group"] for row in rows} == {"1", "2"}
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments[:2])
    assert code == 0 and "insight.json" not in out, err  # all are there
    assert {path.name for path in (tmp_path / "insight").iterdir()} == {"insight_comparison.csv", *names}
    path = tmp_path / "again/insight/insight.json"
    path.write_text(path.read_text().replace('"adapter_sha256":"', '"adapter_sha256":"of another'))
    code, out, err = command(*arguments)
    assert code == 0 and out.count("insight.json") == 1 and str(path) in out, err  # the adapter was replaced


def test_other_data_is_not_called_by_the_split_s_name(runs, command, undrawn, data, tmp_path):
    (other := tmp_path / "other").mkdir()
    for path in (data / "demo_pair").iterdir():
        (other / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    shutil.copytree(runs["p_tuning_v2"], run := tmp_path / "run")
    result, settings = run / "insight/insight.json", ["interventions=false", f"output={tmp_path}/out"]
    for folder, split in ((data / "demo_pair", "validation"), (other, f"validation of {other}")):
        code, _, err = command(f"run=[{run}]", f"data_dir={folder}", *settings)
        assert code == 0 and Insight.from_json(result.read_text()).split == split, err
    code, out, err = command(f"run=[{run}]", *settings)
    assert code == 0 and str(result) in out, err  # inspected again, on the run's own data
    result.write_text("{}")
    code, out, err = command(f"run=[{run}]", *settings)
    assert code == 0 and f"{result} is not a result of spt.inspect" in out + err
    rows = (other / "train.jsonl").read_text().splitlines(keepends=True)
    for count in (5, 9):  # a file may have changed
        (file := tmp_path / "rows.jsonl").write_text("".join(rows[:count]))
        code, _, err = command(f"run=[{run}]", f"file={file}", *settings)
        assert code == 0 and Insight.from_json(result.read_text()).examples == count, err


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("linear_probe", [], "adapter has no prefixes to inspect: the methods with prefixes are spt, spt_sl"),
        ("spt", ["split=dev"], "no split 'dev'.* known: test, train, validation"),
        ("spt", ["file=/no/such.txt"], "cannot read .*such.txt"),
        ("p_tuning_v2", ["file={tmp}/rows.jsonl"], "rows.jsonl, line 1: no field 'label'"),
        ("spt", ["batch_size=0"], "batch_size must be a whole number"),
        ("spt", ["seed=-1"], "seed must be a whole number"),
    ],
)
def test_what_cannot_be_inspected_is_one_message(method, arguments, message, runs, command, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"premise": "a", "hypothesis": "b"}\n')
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    code, _, err = command(f"run={runs[method]}", *given, f"output={tmp_path}/out")
    assert code == 1 and re.search(message, err) and err.count("error:") == 1 and "Traceback" not in err, err
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
def test_the_function_is_there_after_the_command_in_a_new_process(runs, tmp_path):
    code = f"""
import runpy, sys, spt
sys.argv = ["spt.inspect", "run={runs["spt"]}", "output={tmp_path}", "interventions=false"]
runpy.run_module("spt.inspect", run_name="__main__", alter_sys=True)
predictor = spt.load("{runs["spt"]}")
examples = predictor.task.read("validation")
for example in examples:
    del example["tags"]
print(spt.inspect(predictor, examples).label_information)
"""
    done = run("-c", code)
    assert done.returncode == 0 and done.stdout.strip().endswith("None"), done.stdout + done.stderr
    assert (tmp_path / "insight.json").is_file()
