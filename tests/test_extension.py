"""Extending from a folder of one's own: its tasks take part in tables."""

import csv
import json

import pytest

TASK = """
defaults: [custom, _self_]
name: reviews
train: mine/train.csv
validation: mine/dev.csv
text: [review]
label: stars
"""

TABLE = """
# @package tables.mine
title: Reviews
rows:
  linear_probe: {method: linear_probe}
sweep: {task.max_length: [8, 16]}
profiles:
  smoke: {tasks: [reviews], models: [demo], seeds: [11]}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current folder, with the folder `mine` in it, which has configs and code of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "mine/train.csv": "review,stars\n" + "a good apple,5\na bad wagon,1\n" * 4,
        "mine/dev.csv": "review,stars\na good wagon,5\na bad apple,1\n",
        "mine/conf/task/reviews.yaml": TASK,
        "mine/conf/table/mine.yaml": TABLE,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    return tmp_path


@pytest.mark.slow
def test_a_custom_task_takes_part_in_a_table_with_a_sweep(mine, called):
    grid = ("spt.reproduce", "--config-dir", "mine/conf", "table=mine", "profile=smoke")
    code, out, err = called(*grid, "--dry-run")
    assert code == 0 and "2 runs to do" in out, err
    code, out, err = called(*grid)
    assert code == 0 and "2/2 reviews demo linear_probe" in out, err
    records = [json.loads(path.read_text()) for path in (mine / "runs/smoke/records").glob("*/record.json")]
    scores = {r["config"]["task"]["max_length"]: 100 * r["metrics"]["best_dev"] for r in records}
    with (mine / "runs/smoke/tables/mine.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "best_dev"]
    assert {int(row["value"]): float(row["ours_mean"]) for row in rows} == scores and scores.keys() == {8, 16}
    assert {(row["task"], row["metric"]) for row in rows} == {("reviews", "accuracy")}
    code, out, err = called("spt.report", *grid[1:], "cell=mine/reviews/demo/linear_probe/8", "results_dir=runs/smoke")
    assert code == 0 and "accuracy" in out, err
    assert "nothing to run" in called(*grid, "--dry-run")[1]


def test_a_task_with_another_name_than_its_file_is_refused_in_a_table(mine, called):
    (mine / "mine/conf/task/reviews.yaml").write_text(TASK.lstrip().replace("name: reviews", "name: custom"))
    code, _, err = called("spt.reproduce", "--config-dir", "mine/conf", "table=mine", "profile=smoke", "--dry-run")
    assert code == 1 and "task/reviews.yaml" in err and "'custom'" in err
