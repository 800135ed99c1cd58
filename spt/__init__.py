"""Selective Prefix Tuning (Zhang et al., Findings of ACL 2024): gated key-value prefixes on a frozen encoder.

Train prefixes on an encoder of your own::

    model = spt.TaskModel(encoder, task_type="sentence", num_labels=2)
    spt.attach(model, spt.PrefixConfig(prefix_length=20, alpha=8.0))
    out = model(input_ids=..., attention_mask=..., labels=...)
    loss = out.loss + sl_weight * spt.selective_loss(model)
    spt.save_adapter(model, folder)

Train a run, as `python -m spt.train` does::

    record = spt.train(task="demo_pair", model="demo", method="spt")

Predict with what a run of `python -m spt.train` saved (its folder, an adapter's folder, or a repository on the hub)::

    predictor = spt.load(run)
    predictor("a text")

See what its prefixes learned::

    insight = spt.inspect(predictor, predictor.task.read("validation"))
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

try:
    import fcntl  # noqa: F401
except ImportError:
    raise ImportError("spt needs Linux or macOS; on Windows, use it in WSL (Windows Subsystem for Linux)") from None

if TYPE_CHECKING:
    from spt.adapters.format import load_adapter, save_adapter
    from spt.adapters.hub import push_adapter
    from spt.adapters.predictor import Predictor, load
    from spt.errors import SptError
    from spt.insight.inspect_adapter import inspect
    from spt.modeling.attach_prefix import attach, detach
    from spt.modeling.prefix_parameters import PrefixConfig, attached
    from spt.modeling.selective_loss import selective_loss
    from spt.modeling.task_model import TaskModel
    from spt.train import train

__version__ = "0.1.0"

_HOMES = {
    "TaskModel": "modeling.task_model",
    "PrefixConfig": "modeling.prefix_parameters",
    "attach": "modeling.attach_prefix",
    "attached": "modeling.prefix_parameters",
    "detach": "modeling.attach_prefix",
    "selective_loss": "modeling.selective_loss",
    "save_adapter": "adapters.format",
    "load_adapter": "adapters.format",
    "Predictor": "adapters.predictor",
    "load": "adapters.predictor",
    "push_adapter": "adapters.hub",
    "inspect": "insight.inspect_adapter",
    "train": "train",
    "SptError": "errors",
}
__all__ = [
    "Predictor",
    "PrefixConfig",
    "SptError",
    "TaskModel",
    "attach",
    "attached",
    "detach",
    "inspect",
    "load",
    "load_adapter",
    "push_adapter",
    "save_adapter",
    "selective_loss",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import torch and transformers when a name is first used: `python -m spt.train --help` needs neither."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spt' has no attribute {name!r}")
    return getattr(import_module(f"spt.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Python binds an imported submodule to its package; `spt.train` and `spt.inspect` stay the functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
