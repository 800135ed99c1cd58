"""`python -m spt.runs`: nothing breaks at 80 columns; means over what is named, and never over anything else."""

import csv
import io
import json
import re

import pytest

from spt.errors import SptError
from spt.grid.run_table import settings_frame, show_means, show_runs, varying

SCORES = {"best_dev": 0.5, "last_dev": 0.25, "held_out": 0.125, "test": 0.75}


def record(seed=1, task="conll04", method="spt", score=0.0, collapsed=False, **settings):
    config = {
        "task": {"name": task, "data_dir": f"/home/{seed}"},
        "model": {"name": "bert-large-uncased"},
        "method": {"name": method, "prefix_length": 20} | settings,
        "trainer": {"learning_rate": 0.01},
    }
    return {
        **{"task": task, "model": "bert-large-uncased", "method": method, "seed": seed, "metric": "f1"},
        **{"metrics": {name: value + score for name, value in SCORES.items()}, "best_epoch": 12, "status": "finished"},
        **{"trainable_parameters": 2_349_998, "wall_seconds": 12.3, "collapsed": collapsed, "processes": 1},
        **{"fingerprint": f"{seed:012}", "config": config, "data": {"fingerprint": "conll"}, "model_sha256": "bert"},
    }


@pytest.mark.parametrize("columns", [80, 160])
def test_a_line_for_each_run_breaks_no_word(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    show_runs([record(seed, prefix_length=n, alpha=0.125) for seed in (1, 2) for n in (5, 100)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    (line, *_) = [line for line in lines if "prefix_length=5" in line]
    assert line.split()[0] == "conll04" and "50.00 @12" in line and "75.00" in line
    assert ("2,349,998" in line) == (columns == 160)
    assert ("not shown at this width: s, parameters" in lines[-1]) == (columns == 80)


def test_without_a_terminal_every_column_is_there(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    show_runs([record()])
    out = capsys.readouterr().out
    assert "2,349,998" in out and "bert-large-uncased" in out and "not shown" not in out


def test_means_are_over_seeds_by_what_varies(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    runs = [record(seed, prefix_length=n, score=0.01 * seed) for seed in (1, 2, 3) for n in (5, 100)]
    show_means([*runs, record(1, method="lora", collapsed=True)])
    out = capsys.readouterr().out
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    assert max(map(len, out.splitlines())) <= 80
    rows = [line for line in lines if line[0] in ("lora", "spt")]
    assert [(line[0], line[1], line[3]) for line in rows] == [
        ("lora", "20", "1†"),
        ("spt", "5", "3"),
        ("spt", "100", "3"),
    ]
    assert "77.00 ± 1.00" in out and "† with runs that collapsed" in out


def test_encoders_and_data_of_one_name_are_told_apart_by_content(capsys):
    runs = [record(seed) for seed in (1, 2)]  # from two folders
    assert set(settings_frame(runs)["task.data_dir"]) == {""}
    runs += [record(seed) | {"data": {"fingerprint": "another"}} for seed in (3, 4)]
    assert list(settings_frame(runs)["task.data_dir"]) == ["/home/1", "/home/1", "/home/3", "/home/3"]
    with pytest.raises(SptError, match="differ in task.data_dir too"):
        show_means(runs, by=["method"])
    for each, name in zip(runs, "abab", strict=True):
        each["config"]["model"] = {"name": "bert-large-uncased", "name_or_path": name}
        each |= {"data": {"fingerprint": "conll"}, "model_sha256": name}
    assert varying(settings_frame(runs)) == ["model.name_or_path", "seed"]


def test_data_that_changed_in_its_place_is_not_averaged(capsys):
    runs = [record(1), record(2) | {"data": {"fingerprint": "corrected"}}]
    runs[1]["config"]["task"]["data_dir"] = runs[0]["config"]["task"]["data_dir"]
    show_means(runs)
    out = capsys.readouterr().out
    assert "conll " in out and "correcte" in out
    with pytest.raises(SptError, match="differ in task.content too"):
        show_means(runs, by=["method"])
    show_means(runs, by=["method"], over=["seed", "task.content"])


def test_a_diverged_run_counts_where_it_has_a_score(capsys):
    diverged = record(2, collapsed=True) | {"status": "diverged"}
    diverged["metrics"]["test"] = None
    show_means([record(1), diverged, record(3)])
    out = capsys.readouterr().out
    assert "3†‡" in out and "75.00 ± 0.00 (2 of 3)" in out and "50.00 ± 0.00 " in out


def test_other_formats_hold_the_same_means(capsysbinary):
    runs = [record(seed, score=0.01 * seed) for seed in (1, 2, 3)]
    show_means(runs, format="csv")
    (row,) = csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode()))
    assert (row["task"], row["runs"], float(row["test"]), float(row["test_std"])) == (
        "conll04", "3", pytest.approx(0.77), pytest.approx(0.01)
    )  # fmt: skip
    show_means(runs, format="json")
    (row,) = json.loads(capsysbinary.readouterr().out)
    assert row["test"] == pytest.approx(0.77) and row["method"] == "spt"
    show_means(runs, format="latex")
    assert r"\toprule" in (text := capsysbinary.readouterr().out.decode()) and "77.00 ± 1.00" in text
    show_runs(runs, format="csv")
    assert [row["seed"] for row in csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode()))] == [*"123"]


def test_settings_that_differ_in_their_last_digits_are_two_rows(capsys):
    show_means([record(alpha=0.12345678), record(alpha=0.12345679)])
    out = capsys.readouterr().out
    assert "0.12345678" in out and "0.12345679" in out


def test_nothing_is_averaged_that_is_not_named(capsys):
    runs = [record(1, task="rte"), record(1, task="cb"), record(2, task="cb")]
    with pytest.raises(SptError, match=r"method=spt differ in task too: add it to by=\[...\]"):
        show_means(runs, by=["method"])
    show_means(runs, by=["method"], over=["seed", "task"])
    show_means(runs, by=["method", "task"])
    out = capsys.readouterr().out
    assert [line.split()[1:3] for line in out.splitlines() if line.startswith("spt ")][1:] == [
        ["cb", "f1"],
        ["rte", "f1"],
    ]
    with pytest.raises(SptError, match="not 'sed': did you mean 'seed'"):
        show_means(runs, over=["sed"])
    with pytest.raises(SptError, match="differ in method.prefix_length too"):
        show_means([record(1), record(1, prefix_length=3)], by=["task"])
