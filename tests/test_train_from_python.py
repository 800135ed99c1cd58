"""`spt.train(...)`: the run of the command, in a program of somebody else's."""

import asyncio
import io
import json
import logging
import os
import pickle
import shlex
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import are_progress_bars_disabled, enable_progress_bars
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from transformers.utils import logging as transformers_logging

import spt
from spt.paths import CONF
from spt.training.loop import Diverged, TrainingLoop

SETTINGS = {"task": "demo_pair", "model": "demo", "task.data_dir": "data", "trainer.max_steps": 2}
OVERRIDES = [f"{name}={value}" for name, value in SETTINGS.items()]


@pytest.fixture(autouse=True)
def in_a_folder_with_little_data(data, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(data / "demo_pair")
    monkeypatch.chdir(tmp_path)


def results(record: dict) -> tuple:
    return record["fingerprint"], record["scores"], record["steps"]


def test_the_run_is_that_of_the_command(called):
    record = spt.train(**SETTINGS, output_dir="python")
    assert called("spt.train", *OVERRIDES, "output_dir=command")[0] == 0
    (path,) = Path("command").glob("*/record.json")
    commanded = json.loads(path.read_text())
    assert results(record) == results(commanded)
    assert record["command"] == commanded["command"].replace("=command", "=python")
    (path,) = Path("python").glob("*/record.json")
    assert record == json.loads(path.read_text())
    assert spt.train([*OVERRIDES, "output_dir=python"]) == record  # finished before
    assert spt.train(OVERRIDES[:2], **dict(list(SETTINGS.items())[2:]), output_dir="python") == record


def test_inside_another_hydra_program_and_from_its_config(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.2"):
        program = GlobalHydra.instance().hydra
        record = spt.train(**SETTINGS, output_dir="runs")
        assert GlobalHydra.instance().hydra is program
        config = compose("train", [*OVERRIDES, "output_dir=composed"])
    composed = spt.train(OmegaConf.create({"experiment": config}).experiment)
    assert not GlobalHydra.instance().is_initialized()
    assert results(composed) == results(record)
    words = shlex.split(composed["command"])
    argv = ["-c", words[-1]]
    assert words[:2] == ["python", "-c"] and Path(words[-1]).name == "config.yaml"
    before, sys.argv = sys.argv, argv
    try:
        exec(words[2])  # shows the finished run
    finally:
        sys.argv = before
    config = {name: value for name, value in config.items() if name not in ("trainer", "seed")}
    with pytest.raises(spt.SptError, match="the config lacks seed, trainer"):
        spt.train(OmegaConf.create(config))
    with pytest.raises(spt.SptError, match="not both"):
        spt.train(OmegaConf.create(config), seed=1)


def test_in_a_thread_and_in_an_event_loop():
    records = []

    def train():
        records.append(spt.train(**SETTINGS, output_dir=f"runs{len(threading.current_thread().name)}"))

    threads = [threading.Thread(target=train, name=name) for name in ("a", "ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def cell() -> dict:
        return spt.train(**SETTINGS, output_dir="runs")

    records.append(asyncio.run(cell()))
    assert len(records) == 3 and len({json.dumps(results(record)) for record in records}) == 1


def test_nothing_is_left_changed():
    enable_progress_bars()
    transformers_logging.set_verbosity_warning()
    transformers_logging.enable_progress_bar()
    torch.set_float32_matmul_precision("medium")
    logger = logging.getLogger("spt")

    def state() -> list:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
        others = [are_progress_bars_disabled(), transformers_logging.get_verbosity(), os.environ.copy(), os.getcwd()]
        bars, precision = transformers_logging.is_progress_bar_enabled(), torch.get_float32_matmul_precision()
        streams = [sys.stdout, sys.stderr, sys.argv[:]]
        return [*handlers, *others, bars, precision, *streams, logger.level, logger.propagate, logger.handlers[:]]

    before = state()
    try:
        spt.train(**SETTINGS)
        assert state() == before
        with pytest.raises(spt.SptError):
            spt.train(task="demo_pair", model="demo", **{"method.prefix_length": 0})
        assert state() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_program_with_an_accelerator_of_its_own():
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(mixed_precision="bf16", cpu=True)
    try:
        assert spt.train(**SETTINGS)["status"] == "finished"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "rtee"}, "unknown task 'rtee': did you mean 'rte'"),
        ({"tsak": "rte"}, "unknown option 'tsak': did you mean 'task'"),
        ({"+learning_rate": 1}, "unknown option 'learning_rate'"),
        ({"recipe": "spt_sl/rte/bert-base"}, "unknown recipe"),
        ({"method": None}, "must be a string or a list"),
        ({"hparams_search": "general"}, "hparams_search=general is for a search"),
        ({"task": "demo_pair", "model": "demo", "dry_run": True}, "dry_run is for the command"),
        ({"task": "demo_pair", "model": "demo", "method.prefix_length": 0}, "prefix_length must be"),
        ({"task": "demo_pair", "model": "demo", "task.data_dir": "no (1)"}, "no data folder 'no .1.'"),
    ],
)
def test_bad_input_is_an_exception(settings, message):
    with pytest.raises(spt.SptError, match=message):
        spt.train(**settings)


def test_a_sweep_is_for_the_command():
    with pytest.raises(spt.SptError, match="add --multirun"):
        spt.train(["seed=1,2"])


def test_divergence_is_an_exception(monkeypatch):
    def diverge(self, *_):
        raise Diverged("the training loss became nan by step 1")

    monkeypatch.setattr(TrainingLoop, "run", diverge)
    with pytest.raises(spt.SptError, match="became nan"):
        spt.train(**SETTINGS)


def test_ctrl_c_is_a_keyboard_interrupt_and_the_same_call_resumes(monkeypatch):
    straight = spt.train(**SETTINGS, output_dir="straight")
    loss = TrainingLoop._loss

    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return loss(self, *arguments)

    monkeypatch.setattr(TrainingLoop, "_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        spt.train(**SETTINGS)
    monkeypatch.setattr(TrainingLoop, "_loss", loss)
    record = spt.train(**SETTINGS)
    assert record["resumed"] == 1 and results(record) == results(straight)


def test_the_output_of_a_program_ends_no_run(monkeypatch):
    Path("données (1)").mkdir()
    rows = "text,label\n" + "the old apple,très bon\nthe child,数据\n" * 4
    for name in ("données (1)/d=1.csv", "a,b.csv"):
        Path(name).write_text(rows, encoding="utf-8")
    settings = {"task": "custom", "task.train": "données (1)/d=1.csv", "task.validation": "a,b.csv", "model": "demo"}
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    record = spt.train(**settings, **{"task.text": ["text"], "trainer.max_steps": 1})
    stream.flush()
    assert "(tr\\xe8s bon, \\u6570\\u636e)" in stream.buffer.getvalue().decode("ascii")
    assert "'task.train=données (1)/d=1.csv' task.validation=a,b.csv" in record["command"]
    assert "très bon" in next(Path("runs").glob("*/train.log")).read_text(encoding="utf-8")


def test_the_functions_stay_functions_when_their_modules_are_imported():
    for name in ("train", "inspect"):
        module, function = import_module(f"spt.{name}"), getattr(spt, name)
        assert module is not function and module.main is not function
        assert pickle.loads(pickle.dumps(function)) is function
