"""The names of the trainer's settings are those of the libraries, and wrong ones are told without torch."""

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from transformers.trainer_utils import SchedulerType

from spt.errors import SptError
from spt.training import trainer_schema
from spt.training.settings import trainer_settings
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


WRONG_SETTINGS = [
    (["learning_rate=0"], "learning_rate must be a finite number above 0 .in float32., not 0"),
    (["learning_rate=nan"], "learning_rate must be .* not nan"),
    (["learning_rate=inf"], "learning_rate must be .* not inf"),
    (["num_train_epochs=0"], "num_train_epochs must be a finite number above 0"),
    (["num_train_epochs=inf"], "num_train_epochs must be .* not inf"),
    (["max_steps=0"], "max_steps must be at least 1, or -1"),
    (["max_steps=-5"], "max_steps must be at least 1, or -1"),
    (["max_steps=2.5"], "max_steps must be of type int, not 2.5"),
    (["per_device_train_batch_size=1.5"], "per_device_train_batch_size must be"),
    (["per_device_eval_batch_size=0"], "per_device_eval_batch_size must be"),
    (["gradient_accumulation_steps=0"], "gradient_accumulation_steps must be"),
    (["lr_scheduler_type=linaer"], "lr_scheduler_type 'linaer': did you mean"),
    (
        ["lr_scheduler_type=exponential", "warmup_steps=5"],
        "warmup_steps has no effect on lr_scheduler_type=exponential",
    ),
    (["lr_scheduler_type=exponential", "lr_scheduler_kwargs={gamma: 2}"], "gamma must be above 0 and at most 1, not 2"),
    (
        ["lr_scheduler_type=exponential", "lr_scheduler_kwargs={power: 2}"],
        "lr_scheduler_kwargs.power is not an option of exponential",
    ),
    (["bf16=perhaps"], "bf16 must be of type bool, not 'perhaps'"),
    (["output_dir=x"], "trainer.output_dir is not a setting"),
    (["max_grad_norm=much"], "max_grad_norm must be of type float"),
    (["dataloader_persistent_workers=true"], "dataloader_persistent_workers is not a setting of a run"),
    (["weight_decay=heavy"], "weight_decay must be of type float, not 'heavy'"),
    (["adam_beta1=2"], "adam_beta1 must be at least 0 and below 1, not 2"),
    (["train_sampling_strategy=sorted"], "sampling_strategy .sorted.: known"),
    (["dataloader_num_workers=-1"], "num_workers must be .* at least 0"),
    (["weight_decay=nan"], "weight_decay must be a finite number of at least 0"),
    (["max_grad_norm=-1"], "max_grad_norm must be a finite number of at least 0"),
    (["lr_scheduler_kwargs=abc"], "must be names with values"),
    (["adam_beta2=1"], "adam_beta2 must be at least 0 and below 1, not 1"),
    (["learning_rate=1e300"], "finite number above 0 .in float32"),
    (["optim_args=foo"], "must be name=value,name=value"),
    (["optim_args='a=1,b'"], "must be name=value,name=value"),
    (["torch_compile_backend=inducter"], "torch_compile_backend 'inducter': did you mean 'inductor'"),
    (["torch_compile_mode=fast"], "mode 'fast': .*known: def"),
    (["per_device_train_batch_size=0"], "per_device_train"),
    (["num_train_epochs=-1"], "num_train_epochs must be"),
    (["gradient_accumulation_steps=1.5"], "gradient_accumulation_steps must be"),
    (["lr_scheduler_type=exponential", "lr_scheduler_kwargs={gama: 0.9}"], "did you mean 'gamma'"),
    (["warmup_stepz=3"], "did you mean 'warmup_steps'"),
    (["optim=adam_fast"], "unknown trainer.optim 'adam_fast': did you mean"),
    (["save_strategy=epoch"], "save_strategy is not a setting of a run"),
    (["data_seed=3"], "data_seed is not a setting of a run"),
    (["max_grad_norm=null"], "max_grad_norm must be of type float"),
    (["lr_scheduler_type=exponential", "lr_scheduler_kwargs={gamma: x}"], "gamma must be"),
    (["lr_scheduler_type=constant", "warmup_steps=0.9"], "warmup_steps has no effect on .*=constant"),
    (["lr_scheduler_type=reduce_lr_on_plateau", "warmup_steps=2"], "warmup_steps has no effect"),
    (["lr_scheduler_type=constant_with_warmup", "lr_scheduler_kwargs={gamma: 1}"], "kwargs has no effect"),
    (["optim_args='weight_decay=5'"], "weight_decay has no effect there: set trainer.weight_decay"),
    (["optim=sgd", "adam_beta1=0.8"], "adam_beta1 has no effect on optim=sgd"),
    (["torch_compile_backend=eager", "torch_compile_mode=default"], "has no effect on the backend eager"),
    (["torch_compile_backend=5"], "torch_compile_backend must be the name of a backend, not 5"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_SETTINGS)
def test_wrong_settings_are_named(changes, message):
    values = {"learning_rate": 1.0}
    for change in OverridesParser.create().parse_overrides(changes):
        values[change.key_or_group] = change.value()
    with pytest.raises(SptError, match=message):
        trainer_settings(values)
