"""Adapters with random weights, as runs save them, without any training."""

import shutil
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from spt.adapters.format import save_adapter
from spt.modeling.pretrained_encoder import backbone_settings, load_backbone, tokenizer_fingerprint
from spt.modeling.task_model import TaskModel
from spt.paths import local_path
from spt.tasks.task import describe_task
from tests.families import family
from tests.test_configs import composed

DEMO_ENCODER = local_path("pkg://spt/demo/encoder")


def made_adapter(folder: Path, *overrides: str, seed: int = 0) -> Path:
    """Save an adapter of a task, an encoder and a method of `conf` in `folder`; returns the folder."""
    config = composed(*overrides)
    task = instantiate(config.task, _convert_="all")
    model = OmegaConf.to_container(config.model, resolve=True)
    is_tagged = task.task_type == "token"
    encoder, tokenizer = load_backbone(**backbone_settings(model), split_into_words=is_tagged)
    made = TaskModel(encoder, task.task_type, len(task.classes), model["pooling"])
    instantiate(config.method, made, _convert_="all")
    torch.manual_seed(seed)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter)
    trainer = OmegaConf.to_container(config.trainer, resolve=True)
    training = {"command": "", "seed": 1, "trainer": trainer, "epoch": 1, "scores": {}, "data": {}}
    about = {"task": describe_task(task), "model": model, "tokenizer": tokenizer_fingerprint(tokenizer)}
    return save_adapter(made, folder, about | {"training": training})


def made_encoder(folder: Path, name: str) -> Path:
    """Save a random encoder of a family in `folder`, with the tokenizer of the demo; returns the folder."""
    family(name, vocab_size=150).save_pretrained(folder)
    for file in DEMO_ENCODER.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder
