"""The message of an error: what is wrong, and what would be right."""

import sys
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from inspect import signature
from traceback import walk_tb

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spt.errors import SptError, nearest

PLUGINS = {"hydra/launcher": "pip install hydra-ray-launcher", "hydra/sweeper": "pip install hydra-optuna-sweeper"}

INSTALL = "install the package (in a version of pyproject.toml, if it names one)"

QUOTE = """(a value with spaces, commas, brackets, quotes or = needs quotes of its own: 'key="a (1), b"')"""

# What to do about errors of packages that are not imported here, as `--help` needs none of them.
REMEDIES = {
    "torch.OutOfMemoryError": (
        "out of memory: halve trainer.per_device_train_batch_size and double trainer.gradient_accumulation_steps, "
        "shorten task.max_length, or train fewer parameters; commands without a trainer have batch_size"
    ),
    "torch.AcceleratorError": "the GPU failed: CUDA_LAUNCH_BLOCKING=1 shows where, nvidia-smi whether it is in order",
    "torch.distributed.DistError": "the processes of the run lost each other: see what the others print",
    "submitit.core.utils.UncompletedJobError": (
        "the job reached its time limit too often: the same command resumes the run; hydra.launcher.timeout_min and "
        "max_num_timeout give it more time"
    ),
}


def explain(error: BaseException) -> str:
    """The message of an error, for people: what is wrong, and if possible what to do."""
    match error:
        case SptError():
            return str(error)
        case InstantiationException(__cause__=TypeError() as cause) if _raised_by_hydra(cause):
            return f"{cause}: its YAML lacks a setting, or an option or recipe belongs to another method or task"
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
        case YAMLError():
            return f"a file is not valid YAML: {_one_line(error)}"
        case ImportError():
            return f"{_one_line(error)}: {INSTALL}, or correct the _target_ that names it"
        case OSError(strerror=str() as reason):
            return reason if error.filename is None else f"{error.filename}: {reason}"
        case OSError() if str(error):
            return _one_line(error)
        case BrokenExecutor():
            return f"a worker process died, perhaps out of memory: run fewer at a time ({_one_line(error)})"
        case RuntimeError() if _raised_by(error).startswith("torch.utils.data."):
            return f"a process that reads data died: resume with trainer.dataloader_num_workers=0 ({_one_line(error)})"
    # torch's allocator on CPUs raises a plain RuntimeError.
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return f"{REMEDIES['torch.OutOfMemoryError']} ({_one_line(error)})"
    for name, remedy in REMEDIES.items():
        module, _, kind = name.rpartition(".")
        if isinstance(error, getattr(sys.modules.get(module), kind, ())):
            return f"{remedy} ({_one_line(error)})"
    return f"{type(error).__name__}: {error} (unexpected; -v shows the traceback)"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _raised_by(error: BaseException) -> str:
    """The module whose line raised the error."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return modules[-1] if modules else ""


def _raised_by_hydra(error: BaseException) -> bool:
    """Whether a line of Hydra raised the error; for a TypeError: whether its call did not fit the function called."""
    return _raised_by(error).startswith("hydra.")


def _explain_missing_config(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    plugin = PLUGINS.get(group)
    if error.options:
        more = f"; a plugin brings more: {plugin}" if plugin else ""
        return f"unknown {group or 'config'} {name!r}: {nearest(name, error.options)}{more}"
    return f"{group}={name} needs a plugin that is not installed: {plugin}" if plugin else _explain_config(error)


def _parameters(target: str | None) -> Iterable[str]:
    """The parameters of the class or function of spt that a config names."""
    return signature(get_object(target)).parameters if target and target.startswith("spt.") else ()


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
            if name in _parameters(parent.get("_target_")):
                return f"{key} is not in the config yet: add it with a plus, +{key}=..."
            return f"unknown option {key!r}: {nearest(name, map(str, parent))}"
    message = str(error).strip() + ("" if cause is error else f" ({str(cause).strip().splitlines()[0]})")
    return " ".join(message.split())
