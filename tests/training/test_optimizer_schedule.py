"""Every optimizer and every schedule that the settings offer can be made and steps."""

import json
import typing

import pytest
import torch

from spt.training.optimizer_schedule import make_optimizer, make_schedule
from spt.training.settings import trainer_settings
from spt.training.trainer_schema import SCHEDULES, TrainerSettings

NEEDED = {
    "cosine_with_min_lr": {"min_lr": 1e-4},
    "cosine_warmup_with_min_lr": {"min_lr": 1e-4},
    "warmup_stable_decay": {"num_decay_steps": 2},
}
OPTIMIZERS = typing.get_args(TrainerSettings.model_fields["optim"].annotation)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_steps(name):
    settings = trainer_settings(
        {"learning_rate": 0.1, "lr_scheduler_type": name, "lr_scheduler_kwargs": NEEDED.get(name, {})}
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make_schedule(optimizer, settings, steps_per_epoch=3, max_steps=9)
    for _ in range(9):
        optimizer.step()
        schedule.step(*([0.5] if name == "reduce_lr_on_plateau" else []))
    assert 0 <= optimizer.param_groups[0]["lr"] <= 0.1
    json.dumps(schedule.state_dict())  # as a checkpoint holds it


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_steps_and_decays_matrices_alone(name):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = make_optimizer(model, trainer_settings({"learning_rate": 0.1, "optim": name, "weight_decay": 0.5}))
    assert [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.5), (3, 0)]
    model(torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.2, 0.1]])).square().mul(torch.tensor([1.0, 3.0])).sum().backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
