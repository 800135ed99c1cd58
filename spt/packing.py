"""Which runs of a sweep train together (`spt.pack`), and what such a run does otherwise than one alone.

A run alone may call all of this: it then gets what it would without.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spt.backbone import load_backbone
from spt.bridges import bridged
from spt.console import logged
from spt.encoder import is_added, is_pretrained, sharing_copy
from spt.model import TaskModel
from spt.pack import Pack, member
from spt.record import NOT_IN_FINGERPRINT

log = logging.getLogger(__name__)
Value = TypeVar("Value")
METHODS = [f"spt.methods.{name}" for name in ("linear_probe", "prefix_tuning", "selective_prefix_tuning")]
# What runs may differ in and train together, beside the seed and what is no part of a run.
FREE = {
    "method": ("name", "prefix_length", "alpha", "sl_weight", "key_dropout", "value_dropout", "score_dropout"),
    "trainer": (
        *("learning_rate", "num_train_epochs", "max_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
        *("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "max_grad_norm"),
    ),
}
ALONE = ("torch_compile", "gradient_checkpointing", "activation_checkpointing")


def run_together(
    job: Callable[[DictConfig], JobReturn], configs: Sequence[DictConfig], together: int
) -> list[JobReturn]:
    """Run a job with each of the configs, at most `together` of those that fit at a time; the others one by one."""
    returned: dict[int, JobReturn] = {}
    for numbers, reason in groups(configs, together):
        with logged():
            for number in numbers:
                log.info("#%d %s: %s", number, " ".join(configs[number].hydra.overrides.task), reason)
        runs = {f"#{number}": partial(job, configs[number]) for number in numbers}
        results = Pack(runs).run() if len(runs) > 1 else [run() for run in runs.values()]
        returned |= zip(numbers, results, strict=True)
    return [returned[number] for number in range(len(configs))]


def groups(configs: Sequence[DictConfig], together: int) -> Iterator[tuple[list[int], str]]:
    """The numbers of the configs that are to run at the same time, at most so many, and why no more of them."""
    alike: dict[str, list[int]] = {}
    for number, config in enumerate(configs):
        kind, reason = kind_of(config)
        if reason is None:
            alike.setdefault(kind, []).append(number)
        else:
            yield [number], f"alone, {reason}"
    for numbers in alike.values():
        for first in range(0, len(numbers), together):
            some = numbers[first : first + together]
            yield some, f"together, {len(some)} runs" if len(some) > 1 else "alone, no other run differs in so little"


def kind_of(config: DictConfig) -> tuple[str, str | None]:
    """What a run has in common with those that it can train together with, or why there are none such."""
    kept = {key: config[key] for key in config if key not in ("hydra", "seed", *NOT_IN_FINGERPRINT)}
    settings: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(kept), resolve=True)  # type: ignore[assignment]
    method, trainer = settings["method"], settings["trainer"]
    if method["_target_"] not in METHODS:
        return "", f"method={method['name']} changes the encoder itself"
    for option in ALONE:
        if trainer.get(option):
            return "", f"trainer.{option} goes with no other run"
    moved = method.get("shift_positions")  # by the prefix_length, which all have in common then
    for group, free in FREE.items():
        for name in free:
            if not (moved and name == "prefix_length"):
                settings[group].pop(name, None)
    return json.dumps(settings, sort_keys=True), None


def size() -> int:
    """How many runs train together where this is called: 1 alone."""
    run = member()
    return 1 if run is None else len(run.pack.members)


def once(name: str, make: Callable[[], Value]) -> Value:
    """What `make` returns; of runs that train together, to the first, and the others get the same."""
    run = member()
    if run is None:
        return make()
    if name not in run.pack.shared:
        run.pack.shared[name] = make()
    return run.pack.shared[name]


def backbone(**options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """What `load_backbone` returns; runs that train together have one and the same pretrained weights in memory."""
    run = member()
    if run is None:
        return load_backbone(**options)
    if "backbone" not in run.pack.shared:
        own, tokenizer = load_backbone(**options)
        run.pack.shared["backbone"] = sharing_copy(own), tokenizer
        return own, tokenizer
    encoder, tokenizer = run.pack.shared["backbone"]
    if all(map(is_pretrained, encoder.parameters())):
        return sharing_copy(encoder), tokenizer
    own, tokenizer = load_backbone(**options)  # what the checkpoint lacks is each run's own noise
    for name, parameter in encoder.named_parameters():
        if is_pretrained(parameter):
            module, _, place = name.rpartition(".")
            setattr(own.get_submodule(module), place, parameter)
    return own, tokenizer


def join(model: TaskModel) -> None:
    """Have the model's encoder computed together with those of the other runs, where it can be."""
    run = member()
    if run is None:
        return
    own = [n for n, p in model.encoder.named_parameters() if p.requires_grad and not is_added(n)]
    if own or any(bridged(model.encoder)):
        log.info("alone: %s", f"{own[0]} trains" if own else "its attention has parts of its own for every position")
        return
    run.model = model
    model.encode = run.encode  # type: ignore[method-assign]
    model.after_backward = run.backward  # type: ignore[method-assign]
