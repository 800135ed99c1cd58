"""Check, before a run trains, that an adapter of the user's own method can be loaded again."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from spt.adapters.format import load_adapter, save_adapter
from spt.errors import SptError
from spt.modeling.task_model import TaskModel

Method = Callable[..., Any]  # of a TaskModel and the settings of a method, such as those in spt.methods

# The methods whose adapters are loaded without calling them, as the tests show.
RESTORED = {
    f"spt.methods.{name}"
    for name in ("fine_tuning", "linear_probe", "bitfit", "lora", "prefix_tuning", "selective_prefix_tuning")
}

NOISE = 0.02  # standard deviation of what is added to each trained value: at its start a method often changes nothing


def needs_method(model: TaskModel, base: TaskModel, method: Method, settings: Mapping[str, Any], batch: Any) -> bool:
    """Whether the method's function must be called on the base model before an adapter of `model` is loaded.

    An adapter of `model`, with other values than it has, is saved and loaded, and the logits of `batch` compared.

    Args:
        model: with the method, before training. It is left as it was.
        base: the same model without the method. It is used up.
        method, settings: the method's function, and its settings.
        batch: inputs of `model`.

    Raises:
        SptError: if the logits differ either way: what the run would train could not be used.
    """
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder, _changed(model):
        save_adapter(model, folder, {"method": dict(settings)})
        expected, reasons = _logits(model, batch), []
        for is_called in (False, True):
            other = copy.deepcopy(base) if not is_called else base
            try:
                if is_called:
                    apply_method(method, other, settings)
                load_adapter(other, folder)
            except SptError as error:
                reasons.append(str(error).removeprefix(f"{folder} "))
                continue
            close = 1e-4 if expected.dtype == torch.float32 else 1e-2
            if torch.allclose(_logits(other, batch), expected, rtol=close, atol=close):
                return is_called
            reasons.append("its logits are others than those of the model it was saved from")
    raise SptError(
        f"method {settings.get('name')!r}: an adapter of it could not be loaded again ({reasons[-1]}). Only what "
        "has requires_grad is saved, and no module of your own called prefix: calling the function on the base model "
        "must always give the rest"
    )


def apply_method(method: Method, model: TaskModel, settings: Mapping[str, Any]) -> None:
    """Call a method's function on a model, with the settings of its config group; SptError if it does not take them."""
    try:
        method(model, **{name: value for name, value in settings.items() if name != "_target_"})
    except TypeError as error:
        raise SptError(f"method {settings.get('name')!r}: {error}") from error


@contextmanager
def _changed(model: TaskModel) -> Iterator[None]:
    """Have other values in all that trains, until the block ends."""
    before = {parameter: parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad}
    try:
        for parameter in before:
            parameter.data.add_(torch.randn_like(parameter), alpha=NOISE)
        yield
    finally:
        for parameter, values in before.items():
            parameter.data.copy_(values)


def _logits(model: TaskModel, batch: Mapping[str, Tensor]) -> Tensor:
    training = model.training
    model.eval()
    with torch.inference_mode():
        logits = model(**batch).logits
    model.train(training)
    return logits
