"""Progress bars and log lines of a run, and output that cannot be written."""

import json
import os
import shlex
import subprocess
import sys
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from spt import console
from spt.console import Bar, Messages, duration, logged, tolerant_output, write_data
from spt.errors import SptError
from tests.conftest import REPO, run

ROW = {"epoch": 1, "step": 4, "train_loss": 0.5, "dev_loss": 0.25, "dev_f1": 0.75, "seconds": 2.0}


@pytest.mark.parametrize("first_step", [1, 7], ids=["from the start", "resumed"])
def test_the_bar_of_a_training_shows_total_and_remaining_time_from_the_first_step(first_step, monkeypatch):
    terminal = Console(file=StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(console, "console", terminal)
    monkeypatch.setattr(console.time, "monotonic", iter([100.0, 130.0]).__next__)
    with Bar("f1", 10) as bar:
        bar.step(first_step, 0.5)
        bar.progress.refresh()
    seconds = 30 * (10 - first_step)
    assert f"{first_step}/10" in terminal.file.getvalue().replace(" ", "")
    assert f"loss 0.5000, {duration(seconds)} left" in terminal.file.getvalue()


def test_without_a_terminal_an_epoch_is_a_line(capsys):
    with logged(), Bar("f1", 10) as bar:
        bar.step(1, 0.5)
        bar.epoch(ROW, best=True)
    assert capsys.readouterr().out == "epoch 1: loss 0.5000, dev loss 0.2500, dev f1 75.00 * (2.0 s)\n"


class Broken(StringIO):
    """A stream whose reader, or disk, is gone."""

    encoding = "utf-8"

    def flush(self):
        raise BrokenPipeError


def test_messages_that_cannot_be_written_are_dropped():
    for stream in (None, Broken(), StringIO()):
        messages = Messages(stream)
        if isinstance(stream, StringIO) and not isinstance(stream, Broken):
            stream.close()
        for _ in range(2):
            assert messages.write("a") == 1
            messages.flush()
        assert not messages.isatty()


@pytest.mark.parametrize(("encoding", "written"), [("ascii", "tr\\xe8s \\u6570"), ("cp1252", "très \\u6570")])
def test_characters_that_the_encoding_lacks_are_escaped(encoding, written, monkeypatch):
    stream = TextIOWrapper(BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with tolerant_output():
        console.console.print("très 数")
        print("\udcff", file=sys.stdout)
        table = Table("a", box=box.SIMPLE)
        console.console.print(table)
    assert sys.stdout is stream
    stream.flush()
    first, second, *drawn = stream.buffer.getvalue().decode(encoding).splitlines()
    assert (first, second) == (written, "\\udcff") and "".join(drawn).isascii()


def test_data_is_utf8_on_every_stream_and_its_errors_are_raised(monkeypatch):
    stream = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with tolerant_output():
        write_data("très 数\n")
    assert stream.buffer.getvalue().decode("utf-8") == "très 数\n"
    stream.buffer.close()
    with pytest.raises(ValueError, match="closed file"):
        write_data("a")
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(SptError, match="standard output is closed: name a file"):
        write_data("a")


@pytest.mark.slow
@pytest.mark.parametrize("output", [">&- 2>&-", pytest.param("2>&1 | true", marks=pytest.mark.soak)])
def test_no_output_ends_a_run(output, tmp_path):
    overrides = f"task=demo_choice model=demo trainer.max_steps=1 output_dir={tmp_path}"
    script = f"set -o pipefail; {sys.executable} -m spt.train {overrides} {output}"
    assert subprocess.run(["bash", "-c", script], cwd=REPO).returncode == 0
    assert len(list(tmp_path.glob("*/record.json"))) == 1


@pytest.mark.soak
def test_predictions_are_utf8_and_runs_are_told_in_ascii(tmp_path):
    rows = "text,label\n" + "the old apple,très bon\nthe child,数据\n" * 4
    (tmp_path / "données.csv").write_text(rows, encoding="utf-8")
    data = f"task.train={tmp_path}/données.csv task.validation={tmp_path}/données.csv".split()
    settings = ("model=demo", "task=custom", "task.text=[text]", "trainer.max_steps=1", f"output_dir={tmp_path}/runs")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = run("-m", "spt.train", *settings, *data, env=environment)
    assert done.returncode == 0 and "(tr\\xe8s bon, \\u6570\\u636e)" in done.stdout, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    command = [sys.executable, "-m", "spt.predict", f"run={folder}", "text=a"]
    predicted = subprocess.run(command, cwd=REPO, env=environment, capture_output=True)
    assert "très bon" in json.loads(predicted.stdout.decode("utf-8"))["probabilities"]
    closed = subprocess.run(["bash", "-c", f"{shlex.join(command)} >&-"], cwd=REPO, capture_output=True, text=True)
    assert closed.returncode == 1 and closed.stderr.startswith("error: standard output is closed: name a file")
