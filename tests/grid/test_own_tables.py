"""Tables of one's own: their records and report are apart from the project's, and show these tables alone."""

import csv
import json
from pathlib import Path

import pytest

from spt.grid.copy_records import without_local_paths

TABLE = """# @package tables.{name}
title: Mine
rows: {{linear_probe: {{method: linear_probe}}}}
profiles: {{quick: {{tasks: [demo_ner], models: [demo]}}}}
"""
PROFILE = """# @package profiles.quick
seeds: [11]
set: [trainer.max_steps=2]
tasks: {}
learning_rates: {}
"""
QUICK = ("--config-dir", "conf", "profile=quick")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a published report, and a user's configs."""
    monkeypatch.chdir(tmp_path)
    files = {"results/README.md": "published", "conf/profile/quick.yaml": PROFILE}
    for name in ("mine", "also_mine"):
        files[f"conf/table/{name}.yaml"] = TABLE.format(name=name)
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    return tmp_path


def states(folder):
    paths = Path(folder).glob("tables/*.csv")
    rows = [row for path in paths for row in csv.DictReader(path.open(encoding="utf-8"))]
    return {(row["table"], row["profile"], row["state"]) for row in rows}


def test_an_own_table_leaves_the_published_report_as_it_is(project, called):
    code, out, err = called("spt.reproduce", *QUICK, "table=mine")
    assert code == 0 and "go to runs/results" in err, err
    assert [path.name for path in Path("results").iterdir()] == ["README.md"]
    assert states("runs/results") == {("mine", "quick", "done")}
    written = Path("runs/results/README.md").read_bytes()
    code, report, err = called("spt.report.__main__", *QUICK, "table=mine")
    assert code == 0 and "1 cells: 1 done" in out and "1 cells: 1 done" in report, err
    assert Path("runs/results/README.md").read_bytes() == written

    code, out, err = called("spt.reproduce", *QUICK, "table=also_mine")  # with the same run
    assert code == 0 and "nothing to run" in out, err
    assert states("runs/results") == {("mine", "quick", "done"), ("also_mine", "quick", "done")}


OWN_TASK = """_target_: spt.tasks.custom_task
name: reviews
train: train.jsonl
validation: train.jsonl
text: [text]
"""


@pytest.mark.slow
def test_changed_files_of_an_own_task_make_its_runs_stale(project, called):
    rows = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(8)]
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("conf/task").mkdir()
    Path("conf/task/reviews.yaml").write_text(OWN_TASK)
    Path("conf/table/mine.yaml").write_text(TABLE.format(name="mine").replace("demo_ner", "reviews"))
    code, _, err = called("spt.reproduce", *QUICK, "table=mine")
    assert code == 0, err
    code, out, err = called("spt.reproduce", *QUICK, "table=mine", "dry_run=true")
    assert code == 0 and "nothing to run" in out, err
    Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:6]))
    code, out, err = called("spt.reproduce", *QUICK, "table=mine", "dry_run=true")
    assert code == 0 and "1 runs to do" in out, err
    Path("train.jsonl").unlink()  # as on another machine
    code, out, err = called("spt.reproduce", *QUICK, "table=mine", "dry_run=true")
    assert code == 0 and "nothing to run" in out, err


RECIPE = """# @package _global_
recipe: {name: spt_sl/demo_ner/demo, source: mine, note: null}
method: {prefix_length: 3}
"""


def test_a_recipe_of_ones_own_is_that_of_every_row_that_names_it(project, called):
    rows = "{spt_sl: {method: spt_sl}, spt: {method: spt, recipe: spt_sl}}"
    table = TABLE.format(name="mine").replace("{linear_probe: {method: linear_probe}}", rows)
    Path("conf/table/mine.yaml").write_text(table.replace("demo_ner", "wnut17"))
    recipe = Path("conf/recipe/spt_sl/wnut17/demo.yaml")
    recipe.parent.mkdir(parents=True)
    recipe.write_text(RECIPE)
    code, out, err = called("spt.report.__main__", *QUICK, "table=mine", "cell=mine/wnut17/demo/spt")
    assert code == 0 and "recipe=spt_sl/wnut17/demo" in out, err
    recipe.write_text(RECIPE.replace("source: mine, ", ""))
    code, _, err = called("spt.reproduce", *QUICK, "table=mine", "dry_run=true")
    assert code == 1 and "needs its name and source" in err


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (("table=ner", "profile=cpu"), "results"),
        (("table=ner", "profile=cpu", "output_dir=elsewhere"), "elsewhere/results"),
        (("table=ner", "profile=cpu", "profiles.cpu.seeds=[1]"), "runs/results"),
        (("table=ner", "profile=cpu", "tables.ner.profiles.cpu=[]", "results_dir=results"), "results"),
        ((*QUICK, "table=mine", "results_dir=there"), "there"),
    ],
)
def test_where_records_and_report_are(project, called, monkeypatch, arguments, folder):
    read = []
    monkeypatch.setattr(
        "spt.report.write_report.report_records", lambda config, fingerprint: read.append(config.results_dir)
    )
    code, _, err = called("spt.report.__main__", *arguments)
    assert code == 0 and read == [folder], err
    is_default = folder in ("results", "there")
    assert ("not the project's" in err) != is_default


def test_published_records_name_no_folder_of_this_machine():
    config = {
        **{"task": {"name": "cb", "data_dir": "/home/me/my data/CB/", "hub": None}, "output_dir": "/scratch/runs"},
        **{"model": {"name_or_path": "org/model", "revision": "main"}, "seed": 1},
    }
    command = "python -m spt.train task=cb 'task.data_dir='\"'\"'/home/me/my data/CB/'\"'\"'' output_dir=/scratch/runs"
    command += " 'task.files.train=[/home/me/a.jsonl,~/b.jsonl]' --config-dir /home/me 'task.templates=[[a/b,a /c]]'"
    shown = without_local_paths({"config": config, "command": command})
    assert "/home" not in str(shown) and "/scratch" not in str(shown)
    assert shown["config"]["task"]["data_dir"] == "CB" and shown["config"]["model"]["name_or_path"] == "org/model"
    assert shown["command"].startswith("python -m spt.train task=cb ") and shown["command"].endswith(
        " output_dir=runs 'task.files.train=[a.jsonl,b.jsonl]' --config-dir me 'task.templates=[[a/b,a /c]]'"
    )
    assert config["output_dir"] == "/scratch/runs"
