"""Tiny encoders, and the commands as a user calls them."""

import functools
import gc
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import hypothesis
import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from tests import families, quick_configs  # noqa: F401

hypothesis.settings.register_profile("spt", deadline=None, max_examples=50)
hypothesis.settings.load_profile("spt")

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it; commands would print tables for that width
ENVIRONMENT = dict(os.environ)
LEFT_BY_LIBRARIES = ("PYTEST_CURRENT_TEST", "KMP_", "TOKENIZERS_PARALLELISM", "SPT_CUDA_VISIBLE_DEVICES")


def pytest_collection_finish() -> None:
    gc.freeze()  # garbage collections then skip all imported objects


def tiny_encoder(family: str = "bert", attention: str = "sdpa", **config) -> PreTrainedModel:
    """A BERT or RoBERTa of two layers with random weights, the same at each call."""
    return families.family({"bert": "BERT", "roberta": "RoBERTa"}[family], attention, **config)


@pytest.fixture
def encoder() -> PreTrainedModel:
    return tiny_encoder()


def batch(rows: int = 3, length: int = 10, choices: int | None = None) -> dict[str, torch.Tensor]:
    """Input ids and attention mask, padded on the right; the first row has no padding."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, length) if choices is None else (rows, choices, length)
    mask = torch.ones(shape, dtype=torch.long)
    for row in range(1, rows):
        mask[row, ..., length - 2 * row :] = 0
    ids = torch.randint(5, 100, shape, generator=generator)
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def call(name: str, *arguments: str) -> tuple[int, str, str]:
    """`python -m <module> <arguments>` in this process: returns (exit code, standard output, standard error)."""
    module = import_module(name)  # `import spt.train` would give the function of the same name
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in ("out", "err"))
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [name, *arguments])
        patch.delenv("HYDRA_FULL_ERROR", raising=False)
        try:
            module.main()
        except SystemExit as end:
            code = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
    return code, *(each.buffer.getvalue().decode() for each in (out, err))


@pytest.fixture
def called():
    """`call`, as a fixture."""
    return call


@pytest.fixture
def train(called, tmp_path):
    """`python -m spt.train` in this process: returns (exit code, standard output, standard error)."""

    def call(*overrides: str, output_dir: Path | None = None) -> tuple[int, str, str]:
        return called("spt.train", *overrides, f"output_dir={output_dir or tmp_path / 'runs'}")

    return call


@pytest.fixture
def undrawn(monkeypatch):
    """Write figures without drawing them, which takes most of the time of a command."""
    drawn = "spt.insight.result_files.figure_files"
    monkeypatch.setattr(drawn, lambda name, draw, kinds: {f"{name}.{kind}": b"<svg></svg>" for kind in kinds})


def run(*command: str, timeout: float | None = None, **kwargs) -> subprocess.CompletedProcess:
    """Run Python in a process in the repository. After `timeout` it and its children print tracebacks and end."""
    if command[0] == "-m" and command[1].startswith("spt.") and not kwargs and timeout is None:
        changed = {name for name, _ in dict(os.environ).items() ^ ENVIRONMENT.items()}
        if all(name.startswith(LEFT_BY_LIBRARIES) for name in changed):
            return _fork(*command[1:])
    environment = {**kwargs.pop("env", os.environ), "PYTHONFAULTHANDLER": "1"}
    where = {"cwd": REPO, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, *command], **where, **kwargs)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.send_signal(signal.SIGABRT)
        raise AssertionError("{} took more than {} s: {} {}".format(command, timeout, *process.communicate())) from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@functools.cache
def _fork_server() -> subprocess.Popen:
    """It ends with this process, which closes its standard input."""
    command = [sys.executable, "-m", "tests.fork_server"]
    where = {"cwd": REPO, "env": dict(os.environ), "text": True, "bufsize": 1}  # without the COLUMNS of readline
    return subprocess.Popen(command, **where, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _fork(*command: str) -> subprocess.CompletedProcess:
    """`python -m <command>` in a process that has loaded the libraries before."""
    server = _fork_server()
    with tempfile.NamedTemporaryFile("w+") as out, tempfile.NamedTemporaryFile("w+") as err:
        print(json.dumps({"command": command, "stdout": out.name, "stderr": err.name}), file=server.stdin)
        server.stdout.readline()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


DEMO = ("model=demo", "trainer.num_train_epochs=1")
SPT_SL = ("task=demo_ner", "method=spt_sl", "trainer.num_train_epochs=2")
STRAIGHT: dict[tuple[str, ...], dict] = {}


def outcome(runs: Path) -> dict:
    """The results of a run, without times, memory and traces of interruptions."""
    (path,) = runs.glob("*/record.json")
    assert {p.name for p in path.parent.iterdir()} == {
        "config.yaml", "record.json", "history.jsonl", "outcomes.json", "adapter", "train.log"
    }  # fmt: skip
    record = json.loads(path.read_text())
    rows = [json.loads(line) for line in (path.parent / "history.jsonl").read_text().splitlines()]
    about = json.loads((path.parent / "adapter" / "adapter.json").read_text())["about"]
    kept = ("status", "metrics", "scores", "best_epoch", "epochs", "steps", "collapsed", "warnings", "data")
    return {
        "record": {name: record[name] for name in (*kept, "trainable_by_group")},
        "history": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "adapter": {n: t.tolist() for n, t in load_file(path.parent / "adapter" / "adapter.safetensors").items()},
        "files": {p.name for p in (path.parent / "adapter").iterdir()},
        "outcomes": json.loads((path.parent / "outcomes.json").read_text()),
        "about": (about["training"]["epoch"], about["training"]["scores"]),
    }


def resumed(runs: Path) -> int:
    (path,) = runs.glob("*/record.json")
    return json.loads(path.read_text())["resumed"]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The first examples of the demo data."""
    folder = tmp_path_factory.mktemp("data")
    for task, end in (("pair", "\n"), ("ner", "\n\n")):
        (folder / f"demo_{task}").mkdir()
        for file in (REPO / "spt/demo" / task).iterdir():
            examples = file.read_text().split(end)[: 64 if file.stem == "train" else 32]
            (folder / f"demo_{task}" / file.name).write_text(end.join(examples) + end)
    return folder


@pytest.fixture
def start(train, data):
    """Train the encoder of the demo on `data`."""
    return lambda *settings, **where: train(*arguments(data, settings), **where)


def arguments(data: Path, settings: tuple[str, ...]) -> list[str]:
    folder = data / settings[0].removeprefix("task=")
    return ["model=demo", f"task.data_dir={folder}", "trainer.per_device_train_batch_size=8", *settings]


@pytest.fixture
def straight(start, tmp_path):
    """The results of the run with these settings without an interruption."""

    def call(*settings: str) -> dict:
        if settings not in STRAIGHT:
            code, _, err = start(*settings, output_dir=tmp_path / "straight")
            assert code == 0 and resumed(tmp_path / "straight") == 0, err
            STRAIGHT[settings] = outcome(tmp_path / "straight")
        return STRAIGHT[settings]

    return call
