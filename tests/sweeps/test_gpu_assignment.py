"""One GPU per job: which process gets which GPU, with real processes and invented GPUs."""

import os
import select
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from spt.errors import SptError
from spt.paths import CONF
from spt.sweeps import gpu_assignment
from tests.conftest import REPO

CLAIM = (
    "import sys; from pathlib import Path; from spt.sweeps import gpu_assignment as gpus; gpus.CHECK_EVERY = 0.05; "
    "print(gpus.claim(sys.argv[3:], int(sys.argv[2]), Path(sys.argv[1])), flush=True); sys.stdin.read()"
)


@pytest.fixture
def claiming(tmp_path):
    """A function that starts a process and returns it with the GPU that it claimed, None if it has to wait."""
    started = []

    def start(*gpus, runs_per_gpu=1, waits=False):
        command = [sys.executable, "-c", CLAIM, str(tmp_path / "claims"), str(runs_per_gpu), *gpus]
        process = subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, None if waits else process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_each_process_gets_its_own_gpu_and_one_too_many_waits(claiming):
    first, one = claiming("GPU-a", "GPU-b")
    _, other = claiming("GPU-a", "GPU-b")
    assert (one, other) == ("GPU-a", "GPU-b")
    third, _ = claiming("GPU-a", "GPU-b", waits=True)
    assert not select.select([third.stdout], [], [], 4)[0]
    first.kill()
    first.wait()
    assert third.stdout.readline().strip() == "GPU-a"
    assert claiming("GPU-c", "GPU-a")[1] == "GPU-c"


@pytest.mark.soak
def test_runs_share_a_gpu_with_runs_per_gpu(claiming):
    first, *others = (claiming("GPU-a", "GPU-b", runs_per_gpu=2) for _ in range(4))
    assert [first[1], *(gpu for _, gpu in others)] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]
    fifth, _ = claiming("GPU-a", "GPU-b", runs_per_gpu=2, waits=True)
    assert not select.select([fifth.stdout], [], [], 4)[0]
    first[0].kill()
    first[0].wait()
    assert fifth.stdout.readline().strip() == "GPU-a"


@pytest.mark.slow
def test_the_claim_of_a_dead_process_ends(claiming):
    first, one = claiming("0", "1")
    first.kill()
    first.wait()
    assert one == claiming("0", "1")[1] == "0"


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A function that makes this process a job on a machine with GPUs, and returns its CUDA_VISIBLE_DEVICES."""
    for name in (gpu_assignment.VISIBLE, gpu_assignment.VISIBLE_TO_COMMAND, "SUBMITIT_EXECUTOR", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")  # so that a value which the test leaves is removed after it
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpu_assignment, "claims", [])
    monkeypatch.setattr(gpu_assignment.tempfile, "gettempdir", lambda: str(tmp_path))

    def run(*overrides, gpus=2, number=0, **env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", list(overrides), return_hydra_config=True)
        if number is not None:
            config.hydra.job.num = number
        monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
        gpu_assignment.take_one_gpu(config.runs_per_gpu)
        return os.environ.get(gpu_assignment.VISIBLE)

    yield run
    for file in gpu_assignment.claims:
        file.close()


JOBLIB = "hydra/launcher=joblib"


def test_a_job_takes_one_gpu_and_keeps_it(job):
    assert job(JOBLIB) == "0"
    assert job(JOBLIB, number=1) == "0" and len(gpu_assignment.claims) == 1


@pytest.mark.parametrize(("named", "first"), [("3,1", "3"), ("GPU-8f, GPU-2a", "GPU-8f")])
def test_a_job_takes_only_a_visible_gpu(named, first, job):
    assert job(JOBLIB, CUDA_VISIBLE_DEVICES=named) == first


@pytest.mark.parametrize(("gpus", "before", "expected"), [(2, "3,1", "3"), (2, "all", "0"), (1, "all", "0")])
def test_jobs_of_submitit_claim_one_of_the_gpus_of_the_command(gpus, before, expected, job):
    seen = {gpu_assignment.VISIBLE_TO_COMMAND: before, "SUBMITIT_EXECUTOR": "local"}
    assert job(JOBLIB, gpus=gpus, CUDA_VISIBLE_DEVICES="", **seen) == expected
    assert len(gpu_assignment.claims) == 1


def test_a_world_of_one_process_is_no_torchrun(job):
    assert job(JOBLIB, gpus=2, WORLD_SIZE="1") == "0"


def test_slurm_jobs_that_number_their_gpus_alike_do_not_block_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_assignment.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu_assignment, "claims", [])
    for number in ("7", "8"):
        monkeypatch.setenv("SLURM_JOB_ID", number)
        assert gpu_assignment.claim(["0"]) == "0"
    for claimed in gpu_assignment.claims:
        claimed.close()


@pytest.mark.parametrize(
    ("overrides", "others"),
    [
        ([JOBLIB], {"gpus": 1}),
        ([JOBLIB], {"gpus": 0}),
        ([JOBLIB], {"WORLD_SIZE": "2"}),
        ([JOBLIB], {"SUBMITIT_EXECUTOR": "slurm"}),
        ([JOBLIB], {"number": None}),
        ([], {}),
    ],
    ids=["one GPU", "none", "torchrun", "Slurm", "no sweep", "one after the other"],
)
def test_other_processes_keep_their_gpus(overrides, others, job):
    assert job(*overrides, **others) is None and not gpu_assignment.claims


@pytest.mark.parametrize(
    ("gpus", "overrides", "message"),
    [
        (2, ["hydra.launcher.n_jobs=4"], "n_jobs=4 is more than 2 GPUs take with runs_per_gpu=1: .*runs_per_gpu=2"),
        (1, ["hydra.launcher.n_jobs=9", "runs_per_gpu=8"], "set hydra.launcher.n_jobs=8, or runs_per_gpu=9"),
        (2, ["hydra.launcher.n_jobs=4", "runs_per_gpu=2"], None),
        (0, ["hydra.launcher.n_jobs=4"], None),
        (1, ["hydra.launcher.n_jobs=4", "+trainer.use_cpu=true"], None),
        (1, ["hydra.launcher.n_jobs=1", "~runs_per_gpu"], None),  # another command
    ],
)
def test_more_jobs_than_the_gpus_take_are_refused(gpus, overrides, message, monkeypatch):
    monkeypatch.setattr(gpu_assignment, "visible", lambda: [str(gpu) for gpu in range(gpus)])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [JOBLIB, *overrides], return_hydra_config=True)
    with pytest.raises(SptError, match=message) if message else nullcontext():
        gpu_assignment.check_runs_per_gpu(config)
