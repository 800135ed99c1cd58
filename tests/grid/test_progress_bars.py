"""The progress of a grid's runs, read from their folders."""

import json

import pytest

from spt.grid.progress_bars import Watch, Watched
from spt.records.schema import CONFIG, FAILURE, HISTORY, RECORD

EPOCHS = [
    {"epoch": 0, "step": 0, "prefixes": {}},  # the initialisation, without scores
    {"epoch": 1, "step": 7, "dev_loss": 0.5, "dev_f1": 0.25, "dev_precision": 0.5},
]


@pytest.fixture
def run(tmp_path):
    (tmp_path / CONFIG).write_text("task: {}\n")
    return Watched("a run", tmp_path, epochs=4, seconds=None)


def notes(watch):
    return [task.fields["note"] for task in watch.progress.tasks]


@pytest.mark.parametrize("epochs", range(3))
def test_a_run_that_is_training_shows_its_last_epoch(run, epochs):
    (run.folder / HISTORY).write_text("".join(json.dumps(row) + "\n" for row in EPOCHS[:epochs]))
    watch = Watch(total=1)
    watch.add(run)
    watch._look()
    total, own = notes(watch)
    assert total.startswith("0/1, ") and own == ("epoch 1/4, dev f1 25.00" if epochs == 2 else "starting")


def test_a_run_that_ends_leaves_a_line(run, capsys):
    (run.folder / RECORD).write_text('{"metrics": {"best_dev": 0.25}, "wall_seconds": 3.2, "status": "finished"}')
    failed = Watched("another", run.folder / "failed", epochs=4, seconds=None)
    failed.folder.mkdir()
    (failed.folder / FAILURE).write_text('{"error": "out of memory"}')
    with Watch(total=2) as watch:
        watch.add(run)
        watch.add(failed)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["1/2 a run best dev 25.00 (3 s)", "2/2 another failed: out of memory"]
