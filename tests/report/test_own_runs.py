"""`python -m spt.report runs=...`: the report of any folder of runs, without a table of conf/table."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from spt.sweeps import multirun
from tests.report.test_page import RECORD, Page


class Folder:
    """A folder of runs made of a real record."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.record = json.loads((RECORD / "record.json").read_text())

    def run(self, method: str, seed: int, score: float, task: str = "reviews", metric: str = "macro_f1", **changes):
        """A finished run; `changes` are settings by dotted names, with __ for the dots, or parts of the record."""
        record = json.loads(json.dumps(self.record)) | {"seed": seed, "metric": metric, "task": task, "method": method}
        record["config"]["task"] = {"_target_": "spt.tasks.custom_task", "name": task, "metrics": None}
        record["config"] |= {"seed": seed}
        record["config"]["method"]["name"] = method
        for name in [name for name in changes if "__" in name]:
            group, key = name.split("__")
            record["config"][group][key] = changes.pop(name)
        record |= {"metrics": {"best_dev": score, "last_dev": score / 2, "test": None}, "warnings": []} | changes
        folder = self.folder / f"{task}.{record['model']}.{method}.{len(list(self.folder.glob('*')))}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record))
        (folder / "outcomes.json").write_text(json.dumps({"best_dev": [1, 0], "last_dev": [0, 0], "test": None}))
        history = [{"epoch": epoch, f"dev_{metric}": score * epoch / 2} for epoch in (1, 2)]
        (folder / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in history))
        return folder

    def unfinished(self, method: str, log: str, seed: int = 11) -> Path:
        """A run without a record."""
        folder = self.run(method, seed, 0.5)
        config = json.loads((folder / "record.json").read_text())["config"]
        (folder / "record.json").unlink()
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
        (folder / "train.log").write_text(log)
        return folder


@pytest.fixture
def runs(tmp_path) -> Folder:
    return Folder(tmp_path / "my runs")


def lines(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The best dev lines of a CSV file by row and value."""
    with path.open() as file:
        return {(line["row"], line["value"]): line for line in csv.DictReader(file) if line["quantity"] == "best_dev"}


def test_a_swept_number_is_an_axis_and_seeds_are_averaged(runs, command):
    for length in (20, 5, 100):
        for seed in (11, 12):
            runs.run("spt", seed, length / 200 + seed / 1000, method__prefix_length=length)
    code, out = command(f"runs={runs.folder}")
    assert code is None and "3 cells: 3 done" in out and f"{runs.folder}/report/index.html shows them all" in out
    tables = runs.folder / "report" / "tables"
    assert {path.name for path in tables.glob("*.csv")} == {"prefix_length.csv"}
    found = lines(tables / "prefix_length.csv")
    assert list(found) == [("spt", "5"), ("spt", "20"), ("spt", "100")]
    assert found["spt", "20"]["ours_mean"] == "11.1500" and found["spt", "20"]["n"] == "2"
    assert found["spt", "20"]["metric"] == "macro_f1" and found["spt", "20"]["setting"] == "method.prefix_length"
    assert (runs.folder / "report" / "figures" / "prefix_length.reviews.minilm.sensitivity.svg").exists()
    charts = Page((runs.folder / "report" / "index.html").read_text()).data("charts-data")
    assert charts["sweeps"][0]["x"]["ticks"] == ["5", "20", "100"] and "macro F1" in charts["sweeps"][0]["y"]["label"]


def test_several_settings_name_rows_and_a_sweep_stands_beside_other_methods(runs, command):
    for rate, length in ((0.01, 5), (0.01, 20), (0.02, 5)):
        runs.run("spt", 11, 0.5, method__prefix_length=length, trainer__learning_rate=rate)
    for weight in (0, 0.1):
        runs.run("spt_sl", 11, 0.6, method__sl_weight=weight)
    runs.run("spt", 11, 0.7, task="alone", method__alpha=1)
    runs.run("spt", 11, 0.7, task="alone", method__alpha=2.5)
    assert command(f"runs={runs.folder}", f"results_dir={runs.folder.parent}/there")[0] is None
    tables = runs.folder.parent / "there" / "tables"
    assert list(lines(tables / "runs.csv")) == [
        ("spt, learning_rate=0.01, prefix_length=5", ""),
        ("spt, learning_rate=0.01, prefix_length=20", ""),
        ("spt, learning_rate=0.02, prefix_length=5", ""),
        ("spt_sl, sl_weight=0", ""),
        ("spt_sl, sl_weight=0.1", ""),
    ]
    assert list(lines(tables / "sl_weight.csv")) == [("spt_sl", "0"), ("spt_sl", "0.1")]
    assert list(lines(tables / "alpha.csv")) == [("spt", "1"), ("spt", "2.5")]
    assert not (runs.folder / "report").exists()


def test_settings_that_are_no_numbers_or_of_one_name_are_told_apart(runs, command):
    runs.run("spt", 11, 0.5, task__train="a.csv", model__revision="x")
    runs.run("spt", 11, 0.5, task__train="b.csv", trainer__revision=None)
    runs.run("spt", 12, 0.5, task__train="b.csv", trainer__revision=1.0)
    assert command(f"runs={runs.folder}")[0] is None
    assert list(lines(runs.folder / "report" / "tables" / "runs.csv")) == [
        ("spt, model.revision=main, train=b.csv, trainer.revision=1", ""),
        ("spt, model.revision=main, train=b.csv, trainer.revision=none", ""),
        ("spt, model.revision=x, train=a.csv, trainer.revision=none", ""),
    ]


def test_failed_diverged_unfinished_and_repeated_runs_are_told(runs, command):
    runs.run("lora", 11, 0.5)
    runs.run("lora", 12, 0.5)
    twice = runs.run("lora", 12, 0.5)
    nothing = {"best_dev": None, "last_dev": None, "test": None}
    runs.run("spt", 11, 0.5, status="diverged", warnings=["it became nan"], metrics=nothing)
    half = runs.unfinished("lora", "2026-01-01 00:00:00,000 INFO epoch 1\n", seed=13)
    (half / "history.jsonl").write_text('{"epoch": 0}\n{"epoch": 2, "loss": 1}\n{"epoch": 3, "lo')
    runs.unfinished("bitfit", "2026-01-01 00:00:00,000 ERROR SptError: no memory\nfor this\n")
    runs.unfinished("spt_sl", "2026-01-01 00:00:00,000 ERROR SptError: no memory\n2026-01-01 00:00:01,0 INFO resumes\n")
    note = {key: value for key, value in runs.record.items() if key not in ("metrics", "scores")}
    folder = runs.folder / "failed"
    folder.mkdir()
    (folder / "failure.json").write_text(json.dumps(note | {"error": "out of <memory>"}))
    code, out = command(f"runs={runs.folder}")
    assert code is None and "5 cells: 2 failed, 1 partly, 1 done, 1 unfinished" in out
    page = Page((runs.folder / "report" / "index.html").read_text())
    told = "\n".join(page.texts["li"])
    assert "bitfit, seed 11: failed: SptError: no memory\nfor this" in told.replace("runs/reviews/minilm/", "")
    assert "lora, seed 13: unfinished after 2 epochs: its command again resumes it" in told
    assert "spt_sl, seed 11: unfinished after 2 epochs" in told and "out of <memory>" in told
    assert f"{twice.name} has settings and seed of another run" in told
    assert "diverged‡" in "\n".join(page.texts["button"])
    assert "2 of 3 seeds: runs, minilm: reviews: lora" in told


@pytest.mark.slow
def test_two_reports_are_the_same_bytes(runs, command):
    runs.run("spt", 11, 0.5)
    texts = []
    for further in ([], ["output_dir=elsewhere"]):  # which the report of these runs has no use for
        assert command(f"runs={runs.folder}", *further)[0] is None
        files = [path for path in (runs.folder / "report").rglob("*") if path.is_file()]
        texts.append({path: path.read_bytes() for path in files})
    assert texts[0] == texts[1] and len(texts[0]) > 3
    assert Page((runs.folder / "report" / "index.html").read_text()).all("a")[0]["href"] == "#main"


def test_a_table_of_own_runs_is_printed(runs, command):
    for seed in (11, 12):
        runs.run("spt", seed, 0.5)
        runs.run("my_method", seed, 0.25)
    code, out = command(f"runs={runs.folder}", "format=markdown", "rows=[my_method,spt]")
    assert code is None and "| my_method | 25.00 ± 0.00 |" in out and "macro F1 on reviews" in out
    assert not (runs.folder / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs={tmp}/nowhere"], "no folder '.*nowhere': runs= names the output_dir of runs"),
        (["runs={tmp}/empty"], "empty holds no run: python -m spt.train output_dir=.*empty makes one"),
        (["runs={tmp}/my runs", "cell=a/b/c/d"], "cell= is for the tables of conf/table, not for runs="),
        (["runs={tmp}/my runs", "table=ner"], "table= is for the tables of conf/table, not for runs="),
        (["runs={tmp}/my runs", "data_dir={tmp}"], "data_dir= is for the tables of conf/table"),
        (["runs={tmp}/results/records"], "belongs to published results: set results_dir"),
        (["runs={tmp}/my runs", "results_dir={tmp}/results"], "belongs to published results: set results_dir"),
        (["runs={tmp}/my runs", "results_dir={tmp}/paper"], "figures is not of a report, which would replace it"),
        (["runs={tmp}/my runs", "results_dir={tmp}/site"], "index.html is not of a report, which would replace it"),
        (["results_dir={tmp}/notes"], "README.md is not of a report, which would replace it: set another results_dir"),
        (["runs={tmp}/damaged"], "config.yaml is not the config of a run: it is damaged; delete its folder"),
    ],
)
def test_what_cannot_be_reported_is_refused(arguments, message, runs, command, tmp_path):
    for folder in ("empty", "results/records", "paper/figures"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copytree(runs.run("spt", 11, 0.5), tmp_path / "results" / "records" / "run")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<title>mine</title>")
    broken = Folder(tmp_path / "damaged").unfinished("spt", "")
    (broken / "config.yaml").write_text("task: {}\n")
    code, _ = command(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert re.search(message, str(code)), code
    assert (tmp_path / "paper" / "figures").exists() and not (tmp_path / "results" / "index.html").exists()


def test_a_sweep_names_the_command_that_compares_its_runs(monkeypatch, capsys):
    monkeypatch.setattr(multirun, "returns", [object()])
    for command in ("train", "evaluate"):
        config = OmegaConf.create(
            {"output_dir": "my runs", "dry_run": False, "hydra": {"job": {"config_name": command}}}
        )
        multirun.NameFailures().on_multirun_end(config)
        said = capsys.readouterr().out
        assert ("compare the runs: python -m spt.report 'runs=my runs'" in said) == (command == "train")
