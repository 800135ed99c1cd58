"""The numbers of short float64 runs, pinned: every method on every task shape, with dropout and accumulation.

`python -m tests.training.test_numerics` writes the fixture anew, with the present version of the numerics.
"""

import itertools
import json
import platform
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest

from spt.numerics_version import NUMERICS
from spt.train import main as train_command
from tests.conftest import REPO

FIXTURE = REPO / "tests" / "fixtures" / "numerics.json"
METHODS = ("fine_tuning", "linear_probe", "bitfit", "lora", "prefix_tuning", "spt", "spt_sl")
SHAPES = ("pair", "choice", "ner", "regression")
SETTINGS = (
    *("model=demo", "model.dtype=float64", "recipe=none", "trainer.num_train_epochs=2", "trainer.learning_rate=1e-3"),
    *("trainer.per_device_train_batch_size=8", "trainer.gradient_accumulation_steps=2", "trainer.weight_decay=0.01"),
)
ROWS = {"train": 24, "dev": 16}  # three batches, hence two optimizer steps an epoch
QUICK = {*((method, "ner") for method in METHODS), *(("spt_sl", shape) for shape in SHAPES)}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in itertools.product(METHODS, SHAPES)
]
TOLERANCE = 1e-7  # of float64 sums in another order, over four steps; a changed formula moves more


def data_for(shape: str, folder: Path) -> list[str]:
    """The first examples of the demo's data, and a regression made of them; returns the overrides that read them."""
    if shape == "regression":
        for name, rows in ROWS.items():
            source = REPO / "spt/demo/pair" / f"{'val' if name == 'dev' else name}.jsonl"
            pairs = [json.loads(line) for line in source.read_text().splitlines()[:rows]]
            rated = [{"text": pair["premise"], "score": len(pair["hypothesis"]) % 7 / 2} for pair in pairs]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rated))
        files = [f"task.train={folder}/train.jsonl", f"task.validation={folder}/dev.jsonl"]
        return ["task=custom", "task.shape=regression", "task.text=[text]", "task.label=score", *files]
    for path in (REPO / "spt/demo" / shape).iterdir():
        end = "\n\n" if shape == "ner" else "\n"
        examples = path.read_text().split(end)[: ROWS.get(path.stem, 16)]
        (folder / path.name).write_text(end.join(examples) + end)
    return [f"task=demo_{shape}", f"task.data_dir={folder}"]


def history(method: str, shape: str) -> list[dict]:
    """Training loss, penalty and dev loss of each epoch of a run."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = ["spt.train", f"method={method}", *data_for(shape, folder), *SETTINGS, f"output_dir={folder}/runs"]
        with patch.object(sys, "argv", command):
            train_command()
        (path,) = folder.glob("runs/*/history.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: row[key] for key in ("train_loss", "penalty", "dev_loss")} for row in rows if row["epoch"] > 0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch draws other dropouts on other processors")
@pytest.mark.parametrize(("method", "shape"), CASES)
def test_numbers_are_those_of_this_version(method, shape):
    pinned = json.loads(FIXTURE.read_text())
    changed = (
        "numbers changed: if that was meant, raise NUMERICS in spt/numerics_version.py and write the fixture anew with "
        "python -m tests.training.test_numerics; if it was not, the change has a bug"
    )
    assert pinned["numerics"] == NUMERICS, (
        "NUMERICS was raised: python -m tests.training.test_numerics writes the fixture anew"
    )
    for now, then in zip(history(method, shape), pinned["runs"][f"{method}/{shape}"], strict=True):
        assert now == pytest.approx(then, rel=TOLERANCE, abs=1e-12), changed


if __name__ == "__main__":
    runs = {f"{method}/{shape}": history(method, shape) for method, shape in itertools.product(METHODS, SHAPES)}
    FIXTURE.write_text(json.dumps({"numerics": NUMERICS, "runs": runs}, indent=1) + "\n")
