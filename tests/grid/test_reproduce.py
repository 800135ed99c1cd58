"""`python -m spt.reproduce` on the demo: what it runs, and what it does not run again."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from hydra import compose, initialize_config_dir

from spt.grid import launch_runs
from spt.grid.copy_records import publish
from spt.grid.match_records import Finished
from spt.paths import CONF
from spt.records.run_folder import RunFolder
from spt.records.schema import read_record
from tests.conftest import REPO, call, run

SMALL = ("table=ner", "profiles.smoke.set=['trainer.num_train_epochs=1','trainer.per_device_train_batch_size=64']")
ROWS = "+tables.ner.profiles.smoke.rows"


def reproduce(folder, *overrides):
    """The command in this process."""
    arguments = (*SMALL, f"output_dir={folder}", *overrides)
    return subprocess.CompletedProcess(arguments, *call("spt.reproduce", *arguments))


def reproduce_apart(folder, *overrides):
    """The command in a process of its own."""
    return run("-m", "spt.reproduce", *SMALL, f"output_dir={folder}", *overrides)


def records(folder):
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("smoke/records/*/record.json"))]
    return {(r["method"], r["config"]["trainer"]["learning_rate"], r["seed"]): r for r in found}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    done = reproduce(folder, f"{ROWS}=[spt,spt_sl]")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_it_runs_the_grid_and_publishes_records(made):
    folder, done = made
    found = records(folder)
    assert {(method, seed) for method, _, seed in found} == {(m, s) for m in ("spt", "spt_sl") for s in (11, 12)}
    tried = {rate: r for (method, rate, seed), r in found.items() if (method, seed) == ("spt_sl", 11)}
    assert tried.keys() == {0.01, 0.02}
    (chosen,) = [rate for method, rate, seed in found if (method, seed) == ("spt_sl", 12)]
    scores = {str(rate): r["metrics"]["best_dev"] for rate, r in tried.items()}
    assert chosen == max(tried, key=lambda rate: tried[rate]["metrics"]["best_dev"])
    for (method, _, _), record in found.items():
        if method == "spt_sl":
            assert record["selection"]["chosen"] == chosen and record["selection"]["best_dev"] == scores
        else:
            assert "selection" not in record
    assert "5 runs to do" in done.stdout and "5/5" in done.stdout
    published = next((folder / "smoke" / "records").iterdir())
    assert {path.name for path in published.iterdir()} == {"record.json", "history.jsonl", "outcomes.json"}


def test_another_table_keeps_how_a_learning_rate_was_chosen(made, tmp_path):
    """A run of a searched table that a sweep shares is published without the search."""
    folder, _ = made
    published = tmp_path / "records"
    for path in (folder / "smoke" / "records").iterdir():
        shutil.copytree(path, published / path.name)
        run = Finished(read_record(path / "record.json"), path)
        own = run.record.pop("selection", None)
        publish(run, published)
        assert read_record(published / path.name / "record.json").get("selection") == own


def test_again_it_does_nothing(made):
    """But it puts in order what is published: a run that was from another folder is there once."""
    folder, _ = made
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/record.json")}
    published = sorted((folder / "smoke" / "records").iterdir())
    published[0].rename(published[0].with_name("from.elsewhere"))
    done = reproduce(folder, f"{ROWS}=[spt,spt_sl]")
    assert done.returncode == 0 and "nothing to run" in done.stdout, done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*/record.json")}
    assert published == sorted((folder / "smoke" / "records").iterdir())


@pytest.mark.slow
def test_published_records_are_enough(made, tmp_path):
    folder, _ = made
    shutil.copytree(folder / "smoke", tmp_path / "smoke")
    done = reproduce(tmp_path, f"{ROWS}=[spt,spt_sl]")
    assert done.returncode == 0 and "nothing to run" in done.stdout, done.stderr


def test_dry_run_runs_nothing(tmp_path):
    done = reproduce(tmp_path / "none", "--dry-run")
    assert done.returncode == 0 and "12 runs to do" in done.stdout, done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_other_data_makes_a_record_stale(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    path = sorted(tmp_path.glob("demo_ner.demo.spt.*/record.json"))[0]
    record = json.loads(path.read_text())
    record["data"]["fingerprint"] = "of other data"
    path.write_text(json.dumps(record))
    done = reproduce(tmp_path, f"{ROWS}=[spt,spt_sl]", "dry_run=true")
    assert "1 runs to do" in done.stdout, done.stdout
    done = reproduce(tmp_path, f"{ROWS}=[spt,spt_sl]")
    assert done.returncode == 0 and "1/1" in done.stdout, done.stderr
    assert json.loads(path.read_text())["data"]["fingerprint"] != "of other data"

    published = tmp_path / "smoke/records" / path.parent.name / "record.json"  # stale, and alone
    published.write_text(json.dumps(record))
    shutil.rmtree(path.parent)
    (in_the_way := path.parent / "checkpoint.safetensors").mkdir(parents=True)
    done = reproduce(tmp_path, f"{ROWS}=[spt,spt_sl]")
    assert done.returncode == 1 and "1 runs failed" in done.stderr and "is in the way" in done.stderr, done.stdout
    in_the_way.rmdir()
    done = reproduce(tmp_path, f"{ROWS}=[spt,spt_sl]")
    assert done.returncode == 0 and "force=true" not in json.loads(path.read_text())["command"], done.stderr


@pytest.mark.slow
def test_a_failed_cell_is_told_at_the_end_and_stops_nothing(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    broken = "+tables.ner.rows.broken={method: spt, set: ['method.alpha=-1']}"
    command = (f"{ROWS}=[broken,linear_probe]", broken, "profiles.smoke.seeds=[11]")
    done = reproduce_apart(tmp_path, *command)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "1 runs failed, the others are done" in done.stderr
    assert "demo_ner demo broken, seed 11: alpha must be a finite number above 0" in done.stderr
    assert ("linear_probe", 0.01, 11) in records(tmp_path)
    (note,) = (tmp_path / "smoke" / "records").glob("*/failure.json")
    assert "alpha must be" in json.loads(note.read_text())["error"]
    (folder,) = tmp_path.glob("demo_ner.demo.linear_probe.*")
    (folder / "checkpoint.safetensors").mkdir()
    done = reproduce_apart(tmp_path, f"{ROWS}=[linear_probe]", "profiles.smoke.seeds=[11]", "force=true")
    assert done.returncode == 1 and "is in the way" in done.stderr and "its earlier result is kept" in done.stderr
    assert ("linear_probe", 0.01, 11) in records(tmp_path)


def test_a_repeat_that_fails_once_its_earlier_result_is_gone_leaves_a_note(monkeypatch, tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["task=demo_ner", "model=demo", f"output_dir={tmp_path}"])
    run = RunFolder(config, [])
    run.folder.mkdir()
    (run.folder / "record.json").write_text("{}")

    def fail(*_):
        run.clear()
        raise MemoryError

    monkeypatch.setattr(launch_runs, "job_overrides", list)
    monkeypatch.setattr(launch_runs, "run_experiment", fail)
    assert launch_runs.quietly(config) is None
    assert "memory" in json.loads((run.folder / "failure.json").read_text())["error"]


@pytest.mark.slow
def test_a_killed_grid_goes_on(tmp_path):
    """kill -9 in the middle of the second run: the first is kept, the second goes on after its last epoch."""
    longer = "profiles.smoke.set=['trainer.num_train_epochs=8','trainer.per_device_train_batch_size=64']"
    command = ["-m", "spt.reproduce", *SMALL, longer, f"{ROWS}=[spt]", f"output_dir={tmp_path}"]
    process = subprocess.Popen([sys.executable, *command], cwd=REPO, stdout=subprocess.DEVNULL)
    patience = time.time() + 120
    while not (list(tmp_path.glob("*/record.json")) and list(tmp_path.glob("*/checkpoint.safetensors"))):
        assert process.poll() is None and time.time() < patience
        time.sleep(0.05)
    process.kill()
    process.wait()
    (first,) = tmp_path.glob("*/record.json")
    kept = first.read_bytes()
    done = run(*command)
    assert done.returncode == 0 and "1 runs to do" in done.stdout, done.stderr
    assert first.read_bytes() == kept
    assert [record["resumed"] for _, record in sorted(records(tmp_path).items())] == [0, 1]


def test_demo_and_real_stand_apart(tmp_path):
    done = reproduce(tmp_path, "profile=[smoke,cpu]")
    assert done.returncode == 1 and "give it alone" in done.stderr


@pytest.mark.soak
def test_the_same_grid_side_by_side(tmp_path):
    done = reproduce_apart(tmp_path, f"{ROWS}=[linear_probe,spt]", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path)) == 4


@pytest.mark.slow
@pytest.mark.soak
def test_on_a_cluster_a_dead_job_stops_nothing(tmp_path):
    rows = (
        "+tables.ner.rows.broken={method: spt, set: ['method.alpha=-1']}",
        "+tables.ner.rows.dead={method: bitfit, set: ['logger._target_=os.abort']}",
        f"{ROWS}=[broken,dead,linear_probe]",
    )
    cluster = ("hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=2")
    done = reproduce_apart(tmp_path, *rows, "profiles.smoke.seeds=[11]", *cluster)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "2 runs failed, the others are done" in done.stderr
    assert "demo_ner demo broken, seed 11: alpha must be a finite number above 0" in done.stderr
    assert "demo_ner demo dead, seed 11: the process died (out of memory or time?)" in done.stderr
    assert records(tmp_path).keys() == {("linear_probe", 0.01, 11)}
    submitted, ended = (
        sorted(path.stat().st_mtime_ns for path in tmp_path.glob(f"sweeps/*/.submitit/*/*_{name}.pkl"))
        for name in ("submitted", "result")
    )
    assert len(submitted) == 3 and len(ended) == 2 and submitted[1] < ended[0] < submitted[2]
