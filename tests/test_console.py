"""Progress bars and log lines of a run."""

from io import StringIO

import pytest
from rich.console import Console

from spt import console
from spt.console import Bar, duration, logged

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
