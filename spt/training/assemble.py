"""The parts of a run, made from its config: data, encoder, method and training loop."""

import copy
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import DictConfig

from spt import tasks
from spt.adapters.round_trip import RESTORED, needs_method
from spt.errors import SptError
from spt.hydra_targets import instantiate, named_function
from spt.modeling.position_shift import longest_input
from spt.modeling.pretrained_encoder import backbone_settings, load_backbone
from spt.modeling.task_model import TaskModel
from spt.tasks.task import Task, data_fingerprint
from spt.tasks.tokenized_cache import encoded
from spt.training.loop import TrainingLoop
from spt.training.trainer_schema import TrainerSettings

TRIED = 4  # examples on which a method of the user's own is tried


@dataclass(frozen=True)
class Assembled:
    """A training loop, with its task, splits and model, and two facts for record and adapter.

    Attributes:
        loop: at its first step.
        data: the fingerprint of all the task's examples, also those of train that `task.train_examples` leaves out.
        needs_method: whether the adapter can be loaded only by calling the method.
    """

    loop: TrainingLoop
    data: str
    needs_method: bool


def assemble(
    config: DictConfig, content: dict[str, Any], settings: TrainerSettings, accelerator: Accelerator
) -> Assembled:
    """Make the parts of a run, with the run's seed.

    Args:
        config: of `spt.train`.
        content: the same as plain values.
        settings: those of `config.trainer`, checked.
        accelerator: of this process.

    Raises:
        SptError: where the config or what it names is wrong.
    """
    set_seed(config.seed)
    task: Task = instantiate(config.task, _convert_="all")
    if getattr(tasks, type(task).__name__, None) is not type(task):
        raise SptError(
            f"the task's class {type(task).__module__}.{type(task).__name__} is not exported by spt.tasks, and only "
            "those classes are made again when an adapter is loaded: put it into spt/tasks/ and its __init__.py"
        )
    data = task.load()
    whole = data_fingerprint(data)
    data["train"] = task.few(data["train"], config.seed)
    encoder, tokenizer = load_backbone(
        **backbone_settings(content["model"]), split_into_words=task.task_type == "token"
    )
    head: Any = {"pooling": config.model.pooling, "missing_pooler": config.model.missing_pooler or "trained"}
    model = TaskModel(encoder, task.task_type, len(task.classes), **head)
    own_method = None if config.method._target_ in RESTORED else named_function(config, "method")
    base = None if own_method is None else copy.deepcopy(model)
    penalty = instantiate(config.method, model, _convert_="all", _recursive_=False)
    limit = longest_input(encoder)
    splits = {name: encoded(task, examples, tokenizer, limit) for name, examples in data.items()}
    needs = False
    if base is not None and own_method is not None:
        few = splits["train"].inputs.select(range(min(TRIED, len(splits["train"].inputs)))).to_list()
        needs = needs_method(model, base, own_method, content["method"], task.collator(tokenizer)(few))
    return Assembled(
        TrainingLoop(model, task, splits, tokenizer, settings, config.seed, accelerator, penalty), whole, needs
    )
