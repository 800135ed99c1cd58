"""The names of the trainer's settings are those of the libraries, and wrong ones are told without torch."""

import torch
from transformers.trainer_utils import SchedulerType

from spt.training import trainer_schema
from tests.conftest import run


def test_names_and_limits_are_the_libraries():
    schedules = {each.value for each in SchedulerType} - {SchedulerType.GREEDY.value}
    assert {*trainer_schema.SCHEDULES} == schedules | {"exponential"}
    assert torch.finfo(torch.float32).max == trainer_schema.FLOAT32_MAX


WRONG = """
import sys
from omegaconf import OmegaConf
from spt.errors import SptError
from spt.train import _composed, check_settings
for overrides in map(str.split, sys.argv[1:]):
    try:
        check_settings(_composed([*overrides, "model=demo"]))
    except SptError as error:
        print(error)
print("torch" in sys.modules or "transformers" in sys.modules)
"""


def test_wrong_settings_are_told_before_torch_is_imported():
    done = run(
        *("-c", WRONG, "task=demo_ner +trainer.learning_rat=1", "task=demo_ner trainer.learning_rate=fast"),
    )
    *told, is_imported = done.stdout.splitlines()
    assert "trainer.learning_rat is not a setting" in told[0] and "did you mean 'learning_rate'" in told[0], done.stderr
    assert "trainer.learning_rate must be of type float, not 'fast'" in told[1]
    assert is_imported == "False"
