"""Tiny encoders, and the commands as a user calls them."""

import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from transformers import PreTrainedModel

from tests import families

hypothesis.settings.register_profile("spt", deadline=None)
hypothesis.settings.load_profile("spt")

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"


def tiny_encoder(family: str = "bert", attention: str = "sdpa", **config) -> PreTrainedModel:
    """A random BERT or RoBERTa of two layers, the same at each call."""
    return families.family({"bert": "BERT", "roberta": "RoBERTa"}[family], attention, **config)


@pytest.fixture
def encoder() -> PreTrainedModel:
    return tiny_encoder()


def batch(rows: int = 3, length: int = 10, choices: int | None = None) -> dict[str, torch.Tensor]:
    """Right-padded input ids and mask; the first row is whole."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, length) if choices is None else (rows, choices, length)
    mask = torch.ones(shape, dtype=torch.long)
    for row in range(1, rows):
        mask[row, ..., length - 2 * row :] = 0
    ids = torch.randint(5, 100, shape, generator=generator)
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    """`python -m spt.train` in this process: returns (exit code, standard output, standard error)."""
    from spt import train as module

    def call(*overrides: str, output_dir: Path | None = None) -> tuple[int, str, str]:
        arguments = [*overrides, f"output_dir={output_dir or tmp_path / 'runs'}"]
        monkeypatch.setattr(sys, "argv", ["spt.train", *arguments])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        code = 0
        try:
            module.main()
        except SystemExit as exit:
            code = 0 if exit.code is None else exit.code if isinstance(exit.code, int) else 1
            if isinstance(exit.code, str):
                print(exit.code, file=sys.stderr)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def run(*command: str, **kwargs) -> subprocess.CompletedProcess:
    """A real process in the repository."""
    return subprocess.run([sys.executable, *command], cwd=REPO, capture_output=True, text=True, **kwargs)


DEMO = ("model=demo", "trainer.num_train_epochs=1")
