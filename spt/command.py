"""What all commands share: Hydra in front, and one message instead of a traceback where something is wrong."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from traceback import format_exc
from types import MappingProxyType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spt import processes
from spt.errors import SptError, nearest
from spt.jobs import noted
from spt.preemption import INTERRUPTED, Preempted
from spt.published import CONF, recipes
from spt.usage import usage

TRACEBACK = "HYDRA_FULL_ERROR"


def command(
    config_name: str, verbatim: tuple[str, ...] = (), flags: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config a command: `python -m spt.<module> key=value ...`.

    An error ends in one message on standard error and exit code 1; with `-v`, or HYDRA_FULL_ERROR=1, in a traceback.
    The values of `verbatim` keys are text as the shell gives it, with none of Hydra's grammar in it. `flags` are short
    for overrides.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def run() -> None:
            if {"--help", "-h"} & set(sys.argv[1:]):
                print(usage(config_name))
                return
            before = os.environ.get(TRACEBACK)
            verbose = "-v" in sys.argv or before not in (None, "", "0")
            program, *arguments = (quoted(flags.get(word, word), verbatim) for word in sys.argv if word != "-v")
            # argparse takes options before or after all overrides, but not between them.
            sys.argv = [program, *sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))]
            os.environ[TRACEBACK] = "1"  # Hydra then hands its errors on to us
            failed: list[str] = []

            @wraps(main)
            def job(config: DictConfig) -> Any:
                try:
                    refuse_ignored(config, config_name)
                    if sweep_name() is not None and processes.count() > 1:
                        raise SptError("several processes do one run, not a sweep: start its runs one by one")
                    return main(config)
                except BrokenPipeError:  # whoever read the output has enough of it
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    sys.exit(1)
                except Exception as error:
                    if sweep_name() is None or processes.count() > 1:
                        if verbose:
                            raise
                        sys.exit(said(error))
                    print(format_exc() if verbose else f"error: {explain(error)}", file=sys.stderr)
                    raise SptError(explain(error)) from error  # to the launcher, which goes on with the other runs

            try:
                with noted(failed):
                    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)()
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(INTERRUPTED)
            except Preempted as end:
                if processes.is_main():
                    print(end, file=sys.stderr)
                raise
            except Exception as error:
                if verbose:
                    raise
                if not failed:
                    sys.exit(said(error))
                print(f"error: {explain(error)}", file=sys.stderr)
            finally:
                os.environ.pop(TRACEBACK)
                if before is not None:
                    os.environ[TRACEBACK] = before
            if failed:
                runs = "\n  ".join(failed)
                sys.exit(f"error: these runs of the sweep failed, the others are done:\n  {runs}")

        return run

    return decorate


def quoted(argument: str, verbatim: tuple[str, ...]) -> str:
    """An override of one of the `verbatim` keys with its value in Hydra's quotes; any other argument as it is."""
    key, equals, value = argument.partition("=")
    if not equals or key not in verbatim:
        return argument
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # no interpolation, ...
    value = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + "\\'" * bool(found[2]), value)  # ... no end of the quote
    return f"{key}='{value}'"


def sweep_name() -> str | None:
    """What the runs of one multirun have in common; None outside a multirun."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name


def refuse_ignored(config: DictConfig, config_name: str) -> None:
    """Complain of options that were added where nothing reads them, and of parts of the config that were taken away."""
    own: Any = OmegaConf.load(CONF / f"{config_name}.yaml")
    groups = [str(name).split()[-1] for entry in own.defaults if isinstance(entry, DictConfig) for name in entry]
    known = {*map(str, own), *groups, *(f"{group}s" for group in groups)}
    for override in HydraConfig.get().overrides.task:
        name = override.partition("=")[0].lstrip("+")
        if override.startswith("~"):
            raise SptError(
                f"{override}: no part of the config can be left out; give {name[1:]} another value, or null for none"
            )
        outer = re.split(r"[.@\[]", name)[0]
        if override.startswith("+") and outer not in known and f"${{{outer}" not in OmegaConf.to_yaml(config):
            raise SptError(f"unknown option {name!r}: {nearest(outer, known - {'defaults', 'hydra'})}")


def refuse_unknown_recipe(config: DictConfig) -> None:
    """Complain of a recipe that was asked for and is not there: Hydra passes over what is optional in silence."""
    for override in HydraConfig.get().overrides.task:
        key, _, name = override.partition("=")
        if key == "recipe" and name != "none" and config.recipe is None:
            raise SptError(f"unknown recipe {name!r}: {nearest(name, recipes())}")


def said(error: BaseException) -> str:
    """The message that a command ends with; of several processes, one says it."""
    who = processes.await_turn(error)
    return f"error: {who}{explain(error)}"


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
