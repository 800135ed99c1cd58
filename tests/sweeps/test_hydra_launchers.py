"""Sweeps through Hydra's launchers, in real processes: failed and dead jobs are named, the others are finished."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from threading import Semaphore

import pytest
from omegaconf import OmegaConf

from spt.records.fingerprint import fingerprint
from spt.sweeps import hydra_launchers
from spt.sweeps.multirun import ENDED, counting_ends
from tests.conftest import DEMO, REPO, run
from tests.test_configs import composed

LAUNCHERS = {"joblib": ("hydra.launcher.n_jobs=2",), "submitit_local": ()}
QUICK = ("task=demo_pair", *DEMO, "trainer.per_device_train_batch_size=64")
# The logger of linear_probe aborts the process during the run.
DEADLY = (
    "+dies={spt: spt.training.loggers.Tracker, linear_probe: os.abort}",
    "logger._target_='${dies.${method.name}}'",
)

IN_PROCESSES = pytest.mark.parametrize(
    "launcher", [pytest.param("joblib", marks=pytest.mark.slow), pytest.param("submitit_local", marks=pytest.mark.soak)]
)
WITH_EACH = pytest.mark.parametrize("launcher", LAUNCHERS)


def sweep(folder, launcher, *overrides, **kwargs):
    options = (f"hydra/launcher={launcher}", *LAUNCHERS[launcher])
    return run("-m", "spt.train", "--multirun", *QUICK, *options, f"output_dir={folder}", *overrides, **kwargs)


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/record.json"))]


@pytest.mark.parametrize(
    ("launcher", "settings", "jobs", "threads"),
    [
        ("joblib_launcher.JoblibLauncher", {"n_jobs": 2}, 6, "4"),
        ("joblib_launcher.JoblibLauncher", {"n_jobs": -1}, 6, "1"),
        ("joblib_launcher.JoblibLauncher", {"n_jobs": 8}, 3, "2"),
        ("submitit_launcher.LocalLauncher", {"array_parallelism": 256}, 2, "4"),
        ("submitit_launcher.LocalLauncher", {"array_parallelism": 4}, 12, "2"),
        ("submitit_launcher.SlurmLauncher", {"array_parallelism": 4}, 12, None),
    ],
)
def test_processes_share_the_cores(launcher, settings, jobs, threads, monkeypatch):
    monkeypatch.setattr(hydra_launchers, "cpu_count", lambda: 8)
    monkeypatch.setattr(hydra_launchers, "effective_n_jobs", lambda n: n if n > 0 else 8)
    package, _, name = launcher.partition(".")
    module = importlib.import_module(f"hydra_plugins.hydra_{package}.{package}")
    for chosen in (None, "5"):
        monkeypatch.setattr(os, "environ", {} if chosen is None else {"OMP_NUM_THREADS": chosen})
        shared = hydra_launchers.share_cores(getattr(module, name)(**settings), jobs)
        assert (os.environ | shared).get("OMP_NUM_THREADS") == (chosen or threads)


@pytest.mark.soak
@WITH_EACH
def test_a_failing_job_is_named_and_the_other_is_finished(launcher, tmp_path):
    done = sweep(tmp_path, launcher, "method.prefix_length=0,4")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (message,) = [part for part in done.stderr.split("error: ") if part.startswith("these runs of the sweep failed")]
    (line,) = message.splitlines()[1:]
    assert "method.prefix_length=0" in line and "prefix_length must be a whole number of at least 1, not 0" in line
    (record,) = records(tmp_path)
    assert record["config"]["method"]["prefix_length"] == 4
    assert "method.prefix_length=4" in record["command"]


@IN_PROCESSES
def test_every_job_writes_its_record_and_claims_one_gpu(launcher, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import torch\ntorch.cuda.device_count = lambda: 2\n")
    fake_gpus = {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "3,5", "TMPDIR": str(tmp_path)}
    done = sweep(tmp_path / "runs", launcher, "seed=11,12", env=os.environ | fake_gpus)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    assert {record["seed"] for record in records(tmp_path / "runs")} == {11, 12}
    claimed = {path.stem for path in tmp_path.glob("spt-gpus-*/*.*")}
    assert claimed and claimed <= {"3", "5"}


@pytest.mark.soak
@WITH_EACH
def test_a_job_that_dies_is_named(launcher, tmp_path):
    done = sweep(tmp_path, launcher, "method=linear_probe,spt", *DEADLY)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    message = done.stderr.split("these runs of the sweep failed")[1]
    assert "method=linear_probe" in message and "died" in message
    if launcher == "submitit_local":  # joblib gives up all unfinished jobs
        assert "method=spt" not in message and [record["method"] for record in records(tmp_path)] == ["spt"]


def test_the_bar_of_a_sweep_counts_the_jobs_that_ended_in_any_process(tmp_path):
    ended = Semaphore(0)
    (tmp_path / ENDED).write_text("\n")  # an earlier batch of the sweep
    with counting_ends(tmp_path, ended.release):
        for _ in range(2):
            subprocess.run([sys.executable, "-c", f"open({str(tmp_path / ENDED)!r}, 'a').write(chr(10))"], check=True)
        assert ended.acquire(timeout=10) and ended.acquire(timeout=10)
    assert not ended.acquire(blocking=False)


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_that_jobs_share_has_one_bar_and_numbered_lines_of_whole_words(tmp_path):
    import pty

    master, slave = pty.openpty()
    options = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=11,12", f"output_dir={tmp_path}")
    command = [sys.executable, "-m", "spt.train", "--multirun", *QUICK, *options]
    narrow = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=REPO, stdout=slave, stderr=slave, env=narrow) as sweep:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # the end of a pseudo-terminal
            while part := os.read(master, 2**16):
                shown += part
        os.close(master)
    assert sweep.returncode == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert "0/2" in text and set(re.findall(r"\d+/\d+", text)) <= {"0/2", "1/2", "2/2"}
    for job in ("0", "1"):
        lines = re.findall(rf"\[{job}\] (.*)\r\n", text)
        assert lines[0].startswith("task       demo_pair") and "best dev" in lines[-1]
        method = next(place for place, line in enumerate(lines) if line.startswith("method "))
        assert lines[method].endswith("key_dropout=0.1")


@pytest.mark.parametrize("launcher", ["joblib", "local", "slurm"])
def test_the_launcher_is_not_in_the_fingerprint(launcher):
    plain, launched = (
        OmegaConf.to_container(composed(*chosen), resolve=True) for chosen in ([], [f"hydra/launcher={launcher}"])
    )
    assert plain == launched and fingerprint(plain) == fingerprint(launched)


@pytest.mark.slow
@pytest.mark.soak
def test_a_job_at_its_time_limit_is_queued_again_and_resumes(tmp_path):
    """Submitit has schedulers send SIGUSR2 shortly before the limit."""
    options = ("hydra/launcher=submitit_local", "trainer.num_train_epochs=8", "trainer.per_device_train_batch_size=8")
    arguments = ("-m", "spt.train", "--multirun", "task=demo_pair", *DEMO, *options, f"output_dir={tmp_path}")
    sweep = subprocess.Popen([sys.executable, *arguments], cwd=REPO, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*/checkpoint.safetensors")):
        assert sweep.poll() is None
        time.sleep(0.05)
    (lock,) = tmp_path.glob("*/lock.json")
    os.kill(json.loads(lock.read_text())["process"], signal.SIGUSR2)
    _, err = sweep.communicate()
    assert sweep.returncode == 0, err
    (record,) = records(tmp_path)
    assert record["resumed"] == 1 and record["epochs"] == 8
    assert "resumes after epoch" in (lock.parent / "train.log").read_text()
