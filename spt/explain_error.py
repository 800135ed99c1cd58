"""The message of an error: what is wrong, and what would be right."""

from traceback import walk_tb

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spt.errors import SptError, nearest

PLUGINS = "pip install hydra-ray-launcher hydra-optuna-sweeper"

QUOTE = """(a value with spaces, commas, brackets, quotes or = needs quotes of its own: 'key="a (1), b"')"""


def explain(error: BaseException) -> str:
    """The message of an error, for people: what is wrong, and if possible what to do."""
    match error:
        case SptError():
            return str(error)
        case InstantiationException(__cause__=TypeError() as cause) if _raised_by_hydra(cause):
            return f"{cause}: an option, or a recipe, that belongs to another method or task"
        case InstantiationException(__cause__=BaseException() as cause):
            return explain(cause)
        case MissingConfigException(missing_cfg_file=str()):
            return _explain_missing_config(error)
        case OverrideParseException():
            return f"{' '.join(str(error.message).split())} {QUOTE}"
        case HydraException() | OmegaConfBaseException():
            return _explain_config(error)
        case ValueError() if _raised_by_hydra(error):
            return str(error)
        case OSError(strerror=str() as reason):
            return reason if error.filename is None else f"{error.filename}: {reason}"
    # By name: torch is not imported here. Its allocator on CPUs raises a plain RuntimeError.
    if type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error):
        return (
            "out of memory: halve trainer.per_device_train_batch_size and double trainer.gradient_accumulation_steps, "
            f"shorten task.max_length, or train fewer parameters ({str(error).splitlines()[0]})"
        )
    return f"{type(error).__name__}: {error} (unexpected; -v shows the traceback)"


def _raised_by_hydra(error: BaseException) -> bool:
    """Whether a line of Hydra raised the error; for a TypeError: whether its call did not fit the function called."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].startswith("hydra.")


def _explain_missing_config(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    of_hydra = group.startswith("hydra/")
    if error.options:
        plugins = f"; plugins bring more: {PLUGINS}" if of_hydra else ""
        return f"unknown {group or 'config'} {name!r}: {nearest(name, error.options)}{plugins}"
    return f"{group}={name} needs a plugin that is not installed: {PLUGINS}" if of_hydra else _explain_config(error)


def _explain_config(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key, parent = getattr(cause, "full_key", None), getattr(cause, "parent_node", None)
    if key and isinstance(parent, DictConfig):
        outer, _, name = str(key).rpartition(".")
        if OmegaConf.is_missing(parent, name):
            return f"{key} is missing: add {key}=..."
        if not parent:
            return f"{outer} has no option {key!r} yet: add it with a plus, +{key}=..."
        if name not in parent:
            return f"unknown option {key!r}: {nearest(name, map(str, parent))}"
    message = str(error).strip() + ("" if cause is error else f" ({str(cause).strip().splitlines()[0]})")
    return " ".join(message.split())
