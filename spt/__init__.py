"""Selective Prefix Tuning (Zhang et al., Findings of ACL 2024): gated key-value prefixes on a frozen encoder.

model = spt.TaskModel(encoder, task_type="sentence", num_labels=2)
spt.attach(model, spt.PrefixConfig(prefix_length=20, alpha=8.0))
out = model(input_ids=..., attention_mask=..., labels=...)
loss = out.loss + sl_weight * spt.selective_loss(model)
spt.save_adapter(model, folder)

predictor = spt.load(run)  # or an adapter's folder, or its repository on the hub
list(predictor.predict(["a text"]))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spt.adapter import load_adapter, save_adapter
    from spt.encoder import attach, attached, detach
    from spt.errors import SptError
    from spt.hub import push_adapter
    from spt.model import TaskModel
    from spt.predictor import Predictor, load
    from spt.prefix import PrefixConfig, selective_loss

__version__ = "0.1.0"

_HOMES = {
    "TaskModel": "model",
    "PrefixConfig": "prefix",
    "attach": "encoder",
    "attached": "encoder",
    "detach": "encoder",
    "selective_loss": "prefix",
    "save_adapter": "adapter",
    "load_adapter": "adapter",
    "Predictor": "predictor",
    "load": "predictor",
    "push_adapter": "hub",
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
    "load",
    "load_adapter",
    "push_adapter",
    "save_adapter",
    "selective_loss",
]


def __getattr__(name: str) -> Any:
    """Import torch and transformers when a name is first used: `python -m spt.train --help` needs neither."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spt' has no attribute {name!r}")
    return getattr(import_module(f"spt.{_HOMES[name]}"), name)
