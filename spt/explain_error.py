"""One message for any error: what is wrong, and what would be right."""

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spt.errors import SptError, nearest


def explain(error: BaseException) -> str:
    """One message for any error: what is wrong, and where it helps, what would be right."""
    if isinstance(error, SptError):
        return str(error)
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        if isinstance(error.__cause__, TypeError) and "argument" in str(error.__cause__):
            return f"{error.__cause__}: an option, or a recipe, that belongs to another method or task"
        return explain(error.__cause__)
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        return f"{error}: a group is chosen by the name of one of its files"
    if isinstance(error, MissingConfigException):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        of_plugins = "pip install -e '.[ray,optuna]'" if group.startswith("hydra/") else ""
        if error.options:
            extra = f"; more of them come with {of_plugins}" if of_plugins else ""
            return f"unknown {group or 'config'} {name!r}: {nearest(name, error.options)}{extra}"
        if of_plugins:
            return f"{group}={name} is a plugin's, which is not installed: {of_plugins}"
    if isinstance(error, ValueError) and str(error).startswith("The --resolve flag"):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error):
        return (
            "out of memory: halve trainer.per_device_train_batch_size and double trainer.gradient_accumulation_steps, "
            f"shorten task.max_length, or train fewer numbers ({str(error).splitlines()[0]})"
        )
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_config(error)
    return f"{type(error).__name__}: {error} (unexpected; -v shows the traceback)"


def _explain_config(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key, parent = getattr(cause, "full_key", None), getattr(cause, "parent_node", None)
    if key and isinstance(parent, DictConfig):
        outer, _, name = str(key).rpartition(".")
        if OmegaConf.is_missing(parent, name):
            return f"{key} is missing: add {key}=..."
        if not parent:
            return f"option {key!r} is not set in {outer}, and is added with a plus: +{key}=..."
        if name not in parent:
            return f"unknown option {key!r}: {nearest(name, map(str, parent))}"
    message = str(error).strip() + ("" if cause is error else f" ({str(cause).strip().splitlines()[0]})")
    return " ".join(message.split())
