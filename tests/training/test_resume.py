"""Runs that are interrupted at any moment and resumed end exactly as without the interruption."""

import gc
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.optimization import Adafactor

from spt import distributed
from spt.console import Bar, log, logged
from spt.errors import SptError
from spt.records.run_folder import RunFolder
from spt.tasks.token_classification import TokenTask
from spt.training import preemption
from spt.training.checkpoint import Checkpoint, read_checkpoint, training_state
from spt.training.loop import TrainingLoop
from spt.training.preemption import ignore_signals_in_worker
from spt.training.run_experiment import Experiment
from tests.conftest import REPO, SPT_SL, arguments, outcome, resumed

BY_HAND = 130
INTERRUPTED: dict[tuple[tuple[str, ...], int], Path] = {}


@pytest.fixture
def cut_off(start, monkeypatch):
    """Run until the `time`th call of a method, which calls `instead` and is interrupted."""

    def call(*settings: str, at: tuple[type, str], time: int = 2, instead=lambda run, *_: None) -> None:
        owner, name = at
        original, calls = getattr(owner, name), []

        def cut(self, *args):
            calls.append(args)
            if len(calls) < time:
                return original(self, *args)
            instead(self, *args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, cut)
            code, _, err = start(*settings)
        assert code == BY_HAND and "interrupted" in err

    return call


@pytest.fixture
def interrupted(cut_off, tmp_path, tmp_path_factory):
    """Put a run in place that was interrupted after an epoch."""

    def call(*settings: str, after: int) -> Path:
        if (settings, after) not in INTERRUPTED:
            before = set((tmp_path / "runs").glob("*"))
            cut_off(*settings, at=(Bar, "epoch"), time=after)
            (folder,) = set((tmp_path / "runs").iterdir()) - before
            INTERRUPTED[settings, after] = tmp_path_factory.mktemp("interrupted") / folder.name
            folder.rename(INTERRUPTED[settings, after])
        kept = INTERRUPTED[settings, after]
        return Path(shutil.copytree(kept, tmp_path / "runs" / kept.name))

    return call


CASES = {
    "fine-tuning": (
        "task=demo_pair", "method=fine_tuning", "trainer.num_train_epochs=3", "trainer.warmup_steps=3",
        "trainer.weight_decay=0.1",
    ),
    "random order, exponential, accumulation": (
        "task=demo_ner", "method=spt_sl", "trainer.num_train_epochs=3", "trainer.train_sampling_strategy=random",
        "trainer.lr_scheduler_type=exponential", "trainer.gradient_accumulation_steps=3",
    ),
    "steps, not epochs": ("task=demo_ner", "method=lora", "trainer.max_steps=20", "trainer.optim=adafactor"),
    "a projection, a plateau": (
        "task=demo_pair", "method=prefix_tuning", "method.projection=16", "trainer.num_train_epochs=3",
        "trainer.lr_scheduler_type=reduce_lr_on_plateau", "+trainer.lr_scheduler_kwargs.patience=0",
        "+trainer.lr_scheduler_kwargs.threshold=0.9", "trainer.optim=sgd", "+trainer.optim_args='momentum=0.9'",
    ),
    "workers": (
        "task=demo_pair", "method=bitfit", "trainer.num_train_epochs=3", "trainer.dataloader_num_workers=1",
    ),
}  # fmt: skip


SLOW_CASES = ("fine-tuning", "a projection, a plateau", "workers")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case in SLOW_CASES else []) for case in CASES]
)
def test_a_run_resumes_after_an_epoch(case, start, straight, monkeypatch, tmp_path):
    """From the folder as it was after the second epoch."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)  # seconds to wait for a worker's end
    show = Bar.epoch

    def copied(self, row, best):
        show(self, row, best)
        if row["epoch"] == 2:
            shutil.copytree(tmp_path / "straight", tmp_path / "runs")

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "epoch", copied)
        expected = straight(*CASES[case])
    code, out, err = start(*CASES[case])
    assert code == 0 and "resumes after epoch 2 (interrupted before" in out, err
    assert "epoch 2:" not in out and "epoch 3:" in out
    assert outcome(tmp_path / "runs") == expected and resumed(tmp_path / "runs") == 1
    assert len({row["train_loss"] for row in expected["history"] if row["epoch"] > 0}) == 3
    gc.collect()


def torn_line(run, row):
    with (run.folder / "history.jsonl").open("a") as file:
        file.write(json.dumps(row)[:20])


def half_checkpoint(experiment):
    (experiment.run.folder / ".1.partial").mkdir()
    (experiment.run.folder / ".1.partial" / "checkpoint.safetensors").write_bytes(b"half")


def half_adapter(experiment, epoch):
    (experiment.run.adapter / "adapter.safetensors").write_bytes(b"half")
    (experiment.run.adapter / ".tmp123").write_bytes(b"half")


MOMENTS = {
    "in the history line": ((RunFolder, "append_history"), 1, {"instead": torn_line}),
    "between history line and checkpoint": ((Experiment, "write_checkpoint"), 1, {}),
    "in the checkpoint": ((Experiment, "write_checkpoint"), 1, {"instead": half_checkpoint}),
    "between checkpoint and adapter": ((Experiment, "write_adapter"), 2, {}),
    "in the adapter": ((Experiment, "write_adapter"), 2, {"instead": half_adapter}),
    "before the record": ((RunFolder, "write_record"), 2, {"time": 1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_resumes_after_an_interruption_between_any_two_writes(moment, start, straight, cut_off, tmp_path):
    at, epoch, how = MOMENTS[moment]
    expected = straight(*SPT_SL)
    cut_off(*SPT_SL, at=at, **how)
    code, out, err = start(*SPT_SL)
    assert code == 0 and f"resumes after epoch {epoch} " in out, err
    assert outcome(tmp_path / "runs") == expected


@pytest.fixture
def preempted(start, monkeypatch):
    """Run until a signal arrives at the `time`th check for one: at each step, dev batch and end of an epoch."""

    def call(*settings: str, time: int, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        looks: list[Any] = []

        def looking(look: Callable) -> Callable:
            def raising(*args, **kwargs):
                looks.append(args)
                if len(looks) == time:
                    for worker in multiprocessing.active_children():  # a scheduler's comes to all processes of a job
                        os.kill(worker.pid, number)
                        worker.join(0.5)
                    signal.raise_signal(number)
                return look(*args, **kwargs)

            return raising

        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "_exit_if_preempted", looking(TrainingLoop._exit_if_preempted))
            patch.setattr(preemption, "exit_if_requested", looking(preemption.exit_if_requested))
            return start(*settings)

    return call


PREEMPTED = {
    "at the first step": (SPT_SL, 1, "resumes after epoch 0 and 1 steps "),
    "in the middle": (SPT_SL, 12, "resumes after epoch 1 and 2 steps "),
    "in an evaluation": (SPT_SL, 9, "resumes after epoch 0 and 8 steps "),
    "at the end of an epoch": (SPT_SL, 10, "resumes after epoch 1 "),
    "in the last evaluation": (SPT_SL, 19, "resumes after epoch 1 and 8 steps "),
    "after the best epoch": ((*SPT_SL, "trainer.learning_rate=1e-6"), 12, "resumes after epoch 1 and 2 steps "),
    "once all is trained": (SPT_SL, 21, "resumes after epoch 2 "),
    "random order, accumulation": (CASES["random order, exponential, accumulation"], 6, "after epoch 1 and 1 steps "),
    "the last step but one": (CASES["random order, exponential, accumulation"], 2, "after epoch 0 and 2 steps "),
    "the last step": (CASES["random order, exponential, accumulation"], 3, "after epoch 0 and 3 steps "),
    "the last of the steps": (CASES["steps, not epochs"], 24, "after epoch 2 and 4 steps "),
    "workers": (CASES["workers"], 3, "after epoch 0 and 3 steps "),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case == "in an evaluation" else pytest.mark.slow) for case in PREEMPTED]
)
def test_a_preempted_run_resumes_within_the_epoch(case, preempted, start, straight, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)  # seconds to wait for a worker's end
    settings, time, where = PREEMPTED[case]
    expected = straight(*settings)
    before = signal.getsignal(signal.SIGTERM)
    code, out, err = preempted(*settings, time=time)
    assert code == 75 and "preempted by SIGTERM: the same command resumes" in err, err
    assert signal.getsignal(signal.SIGTERM) == before
    code, out, err = start(*settings)
    assert code == 0 and where in out, out + err
    assert outcome(tmp_path / "runs") == expected and resumed(tmp_path / "runs") == 1


@pytest.mark.slow
def test_a_run_may_be_preempted_several_times(preempted, start, straight, tmp_path):
    expected = straight(*SPT_SL)
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
        code, _, err = preempted(*SPT_SL, time=3, number=number)
        assert code == 75 and number.name in err, err
    code, _, err = start(*SPT_SL)
    assert code == 0 and outcome(tmp_path / "runs") == expected and resumed(tmp_path / "runs") == 3


def test_ctrl_c_writes_a_checkpoint_and_a_second_one_exits_at_once(preempted, start, straight, monkeypatch, tmp_path):
    expected = straight(*SPT_SL)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, err = preempted(*SPT_SL, time=12, number=signal.SIGINT)
        assert code == BY_HAND and err == "interrupted: the same command resumes\n"
        with monkeypatch.context() as patch:
            patch.setattr(TrainingLoop, "_loss", lambda *_: [signal.raise_signal(signal.SIGINT) for _ in "ab"])
            code, _, err = start(*SPT_SL)
        assert code == BY_HAND and err == "interrupted\n"
    finally:
        signal.signal(signal.SIGINT, before)
    code, out, _ = start(*SPT_SL)
    assert code == 0 and "resumes after epoch 1 and 2 steps " in out
    assert outcome(tmp_path / "runs") == expected and resumed(tmp_path / "runs") == 1


def test_only_the_run_ends_its_workers():
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def work() -> None:
        ignore_signals_in_worker(0)
        ready.set()
        time.sleep(60)

    worker = context.Process(target=work, daemon=True)
    worker.start()
    assert ready.wait(30)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2, signal.SIGINT):
        subprocess.run(["kill", f"-{number.value}", str(worker.pid)], check=True)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0


@pytest.mark.slow
def test_a_preempted_run_ends_with_its_workers(data, tmp_path):
    """All processes of a job get the signal; the run exits and does not wait for its workers."""
    settings = (*CASES["workers"], "trainer.num_train_epochs=50", "trainer.dataloader_num_workers=2")
    command = [sys.executable, "-m", "spt.train", *arguments(data, settings), f"output_dir={tmp_path}"]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*/checkpoint.safetensors")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 75
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_submitits_signal_reaches_submitit(preempted, start, straight, tmp_path):
    handed: list[tuple] = []
    before = signal.signal(signal.SIGUSR2, lambda *arguments: (handed.append(arguments), sys.exit(144)))
    try:
        code, _, err = preempted(*SPT_SL, time=3, number=signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert code == 144 and handed == [(signal.SIGUSR2, None)], err
    assert start(*SPT_SL)[0] == 0 and outcome(tmp_path / "runs") == straight(*SPT_SL)


def test_a_signal_before_the_training_exits_at_once(start, monkeypatch, tmp_path):
    monkeypatch.setattr(RunFolder, "start", lambda self: signal.raise_signal(signal.SIGTERM))
    code, _, err = start(*SPT_SL)
    assert code == 75 and err.count("\n") == 1, err
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} <= {"train.log"}


@pytest.mark.slow
def test_a_killed_run_resumes_and_a_second_process_is_refused(start, data, straight, cut_off, tmp_path):
    settings = (*SPT_SL, "trainer.num_train_epochs=5")
    command = [sys.executable, "-m", "spt.train", *arguments(data, settings), f"output_dir={tmp_path}/runs"]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL)
    try:
        expected = straight(*settings)
        deadline = time.monotonic() + 60
        while not list((tmp_path / "runs").glob("*/checkpoint.safetensors")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        (log_file,) = (tmp_path / "runs").glob("*/train.log")
        said = log_file.read_text()
        code, _, err = start(*settings)
        assert code == 1 and err.count("\n") == 1 and f"another process is at work on {log_file.parent}" in err
        assert log_file.read_text() == said
    finally:
        process.kill()
        process.wait()
    cut_off(*settings, at=(Experiment, "write_checkpoint"))
    code, out, err = start(*settings)
    assert code == 0 and "resumes after epoch" in out, err
    assert outcome(tmp_path / "runs") == expected and resumed(tmp_path / "runs") == 2
    text = log_file.read_text()
    assert text.startswith(said) and text.count("resumes after epoch") == 2
    code, out, _ = start(*settings)
    assert code == 0 and "finished before" in out


def test_only_the_main_process_writes_the_adapter_again(start, straight, interrupted, monkeypatch, tmp_path):
    folder, resume, calls = interrupted(*SPT_SL, after=1), Experiment.resume, []

    def by_another_first(self, checkpoint):
        before = (folder / "adapter").stat().st_ino
        with monkeypatch.context() as patch:
            patch.setattr(distributed, "is_main", lambda: False)
            resume(self, checkpoint)
        assert (folder / "adapter").stat().st_ino == before
        calls.append(self)
        return resume(self, checkpoint)

    monkeypatch.setattr(Experiment, "resume", by_another_first)
    assert start(*SPT_SL)[0] == 0 and len(calls) == 1
    assert outcome(tmp_path / "runs") == straight(*SPT_SL)


def test_the_time_before_an_interruption_counts(start, cut_off, tmp_path):
    cut_off(*SPT_SL, at=(RunFolder, "write_record"), time=1)
    start(*SPT_SL)
    (path,) = (tmp_path / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    _, *epochs = map(json.loads, (path.parent / "history.jsonl").read_text().splitlines())
    seconds = sum(row["seconds"] for row in epochs)
    assert record["wall_seconds"] > seconds


def test_the_adapter_stays_the_best_epochs_where_a_repeated_epoch_is_worse(start, cut_off, tmp_path, monkeypatch):
    """On an accelerator a repeated epoch may differ in the last bits."""
    cut_off(*SPT_SL, at=(Experiment, "write_checkpoint"))
    (adapter,) = (tmp_path / "runs").glob("*/adapter")
    before = (adapter / "adapter.safetensors").read_bytes()
    monkeypatch.setattr(TokenTask, "score", lambda *_: {"f1": 0.0})
    start(*SPT_SL)
    (path,) = (tmp_path / "runs").glob("*/record.json")
    assert json.loads(path.read_text())["best_epoch"] == 1
    assert (adapter / "adapter.safetensors").read_bytes() == before


def truncated(folder: Path) -> None:
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def emptied(folder: Path) -> None:
    (folder / "checkpoint.safetensors").write_bytes(b"")


def of_something_else(folder: Path) -> None:
    shutil.copy(folder / "adapter" / "adapter.safetensors", folder / "checkpoint.safetensors")


def without_its_adapter(folder: Path) -> None:
    shutil.rmtree(folder / "adapter")


def rewritten(folder: Path, **changes) -> None:
    path = folder / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["spt"]) | changes
    save_file(load_file(path), path, metadata={"format": "pt", "spt": json.dumps(about)})


DAMAGE = {
    truncated: "checkpoint.safetensors is damaged",
    emptied: "checkpoint.safetensors is damaged",
    of_something_else: "checkpoint.safetensors is damaged",
    without_its_adapter: "adapter is not an adapter: it has no adapter.json",
}
BEST_IS_FIRST = (
    "task=demo_pair", "method=spt_sl", "trainer.num_train_epochs=3", "trainer.per_device_train_batch_size=32"
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_reported_and_the_run_starts_anew(damage, start, straight, interrupted, tmp_path):
    expected = straight(*BEST_IS_FIRST)
    damage(interrupted(*BEST_IS_FIRST, after=2))
    code, out, err = start(*BEST_IS_FIRST)
    assert code == 0 and f"{DAMAGE[damage]}" in out, err
    assert out.count("the run starts anew") == 1 and "resumes" not in out and "epoch 1:" in out
    assert outcome(tmp_path / "runs") == expected and resumed(tmp_path / "runs") == 0


def test_another_runs_checkpoint_is_not_used(start, straight, interrupted, tmp_path):
    ours = interrupted(*SPT_SL, after=1)
    other = interrupted(*BEST_IS_FIRST, after=2)
    shutil.copy(other / "checkpoint.safetensors", ours)
    shutil.rmtree(other)
    code, out, err = start(*SPT_SL)
    assert code == 0 and "checkpoint.safetensors is of another run" in out and "starts anew" in out, err
    assert outcome(tmp_path / "runs") == straight(*SPT_SL)


def test_other_data_starts_anew(start, data, cut_off, tmp_path):
    shutil.copytree(data / "demo_ner", tmp_path / "data")
    settings = (*SPT_SL, f"task.data_dir={tmp_path}/data")
    cut_off(*settings, at=(Bar, "epoch"), time=1)
    lines = (tmp_path / "data" / "train.txt").read_text().splitlines()
    (tmp_path / "data" / "train.txt").write_text("\n".join([*lines, "", "Rome B-LOC", ""]))
    code, out, err = start(*settings)
    assert code == 0 and "had other data: the run starts anew" in out and "epoch 1:" in out, err


def test_other_weights_or_numerics_start_anew(start, interrupted):
    folder = interrupted(*SPT_SL, after=1)
    for field, value, message in (("weights", "0", "other weights"), ("numerics", 0, "the numerics of version 0")):
        rewritten(folder, **{field: value})
        code, out, err = start(*SPT_SL)
        assert code == 0 and message in out and "the run starts anew" in out, err
        shutil.rmtree(folder)
        interrupted(*SPT_SL, after=1)


def test_force_starts_anew(start, straight, interrupted, tmp_path):
    interrupted(*SPT_SL, after=1)
    code, out, err = start(*SPT_SL, "force=true")
    assert code == 0 and "epoch 1:" in out and "resumes" not in out, err
    assert outcome(tmp_path / "runs") == straight(*SPT_SL) and resumed(tmp_path / "runs") == 0


def test_a_run_that_diverges_when_it_is_interrupted_resumes_and_says_so(start, interrupted, tmp_path):
    path = interrupted(*SPT_SL, after=1) / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    for name in (name for name in tensors if name.startswith("weight/")):
        tensors[name].fill_(math.nan)
    save_file(tensors, path, metadata=about)
    code, out, err = start(*SPT_SL)
    assert code == 1 and "resumes after epoch 1 " in out and "the training loss became nan" in err, out + err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method", "file", "epochs"),
    [
        (RunFolder, "append_history", "history.jsonl", 1),
        (Experiment, "write_checkpoint", "checkpoint.safetensors", 1),
        (Experiment, "write_adapter", "adapter", 2),
        (RunFolder, "write_record", "record.json", 2),
    ],
)
def test_a_full_disk_is_one_message_and_leaves_the_last_checkpoint(
    owner, method, file, epochs, start, tmp_path, monkeypatch
):
    """Instead of a full disk: no file may grow."""
    original, calls = getattr(owner, method), []

    def on_a_full_disk(self, *args):
        calls.append(args)
        if len(calls) < 2 and method != "write_record":
            return original(self, *args)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            return original(self, *args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(owner, method, on_a_full_disk)
    code, _, err = start(*SPT_SL)
    (folder,) = (tmp_path / "runs").iterdir()
    assert code == 1 and err.count("\n") == 1 and "File too large" in err
    assert f"cannot write {folder / file}: " in err and "make room" in err
    kept = read_checkpoint(folder / "checkpoint.safetensors", folder.name.rpartition(".")[2])
    assert len(kept.history) == epochs and not (folder / "record.json").exists()
    assert not list(folder.glob(".*"))


def test_an_ignored_signal_stays_ignored():
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with preemption.handling_signals():
            signal.raise_signal(signal.SIGHUP)
            assert not preemption.requested()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_log_on_a_full_disk_is_one_message():
    with pytest.raises(SptError, match="cannot write /dev/full: No space left on device"), logged(Path("/dev/full")):
        log.info("a line")


OPTIMIZERS = {
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
    "adafactor, in float32": partial(Adafactor, lr=1e-3, scale_parameter=False, relative_step=False),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_checkpoint_is_read_as_it_was_written(kind, tmp_path):
    model = torch.nn.Linear(3, 2).to(torch.bfloat16)
    optimizer = OPTIMIZERS[kind](model.parameters())
    model(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=7.0)
    row = {"epoch": 1, "dev_f1": float("nan"), "only_class": "é"}
    within = {"loss_sums": [0.1], "loss_count": 2, "last_rate": 0.5, "seconds": 1.5}
    facts = CHECKPOINT | {"within": within, "history": [row], "outcomes": {"1": [0, 1]}}
    Checkpoint(**facts, **training_state(model, optimizer, schedule, scaler)).save(tmp_path / "file")
    drawn = torch.rand(3)

    read = read_checkpoint(tmp_path / "file", "abc")
    assert json.dumps(read.history) == json.dumps([row]) and read.fits(model)
    assert read.outcomes == {"1": [0, 1]} and read.within.model_dump() == within
    other = torch.nn.Linear(3, 2).to(torch.bfloat16)
    again = OPTIMIZERS[kind](other.parameters())
    again.param_groups[0]["lr"] = 5.0
    scaler = torch.amp.GradScaler("cpu")
    read.load_weights(other)
    read.load_state(other, again, torch.optim.lr_scheduler.StepLR(again, 1), scaler)
    read.set_random_state(0)
    assert torch.equal(drawn, torch.rand(3)) and scaler.get_scale() == 7.0
    assert torch.equal(other.weight, model.weight) and again.param_groups[0]["lr"] == 1e-3
    for one, two in zip(other.parameters(), model.parameters(), strict=True):
        assert again.state[one].keys() == optimizer.state[two].keys()
        for key, value in optimizer.state[two].items():
            torch.testing.assert_close(again.state[one][key], value, rtol=0, atol=0)  # and the same type
    assert not read.fits(torch.nn.Linear(3, 3))


CHECKPOINT = {
    "fingerprint": "abc", "data": {"train": "x"}, "tokenizer": "t", "weights": None, "numerics": 1, "step": 3,
    "within": None, "history": [], "outcomes": {}, "resumed": 0, "seconds": 1.5,
    "peak_memory_bytes": 10,
}  # fmt: skip
