"""Tiny encoders, and the commands as a user calls them."""

import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedModel, RobertaConfig, RobertaModel

hypothesis.settings.register_profile("spt", deadline=None)
hypothesis.settings.load_profile("spt")

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"


def tiny_encoder(family: str = "bert", attention: str = "sdpa", **config) -> PreTrainedModel:
    """A random encoder of two layers, the same at each call."""
    classes = {"bert": (BertConfig, BertModel), "roberta": (RobertaConfig, RobertaModel)}
    config_class, model_class = classes[family]
    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 100,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    settings |= {"pad_token_id": 1} if family == "roberta" else {}
    torch.manual_seed(0)
    return model_class._from_config(config_class(**settings | config), attn_implementation=attention)


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
