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
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from spt import distributed as processes
from spt.command_help import usage
from spt.errors import SptError, nearest
from spt.explain_error import explain
from spt.hydra_overrides import quoted
from spt.paths import CONF
from spt.recipes import recipes
from spt.sweeps.hydra_launchers import noted
from spt.training.preemption import INTERRUPTED, Preempted

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
    who = processes.reporter(error)
    return f"error: {who}{explain(error)}"
