"""What all commands share: Hydra reads their config, and an error ends in one message instead of a traceback."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path
from traceback import format_exc
from types import MappingProxyType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, env_override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from spt import distributed
from spt.command_help import usage
from spt.console import tolerant_output
from spt.errors import SptError, nearest
from spt.explain_error import explain
from spt.path_overrides import job_overrides, refuse_unused_files, verbatim
from spt.paths import CONF
from spt.recipes import recipes
from spt.sweeps import multirun
from spt.training.preemption import INTERRUPTED, Preempted

FULL_ERROR = "HYDRA_FULL_ERROR"  # with this variable set, Hydra raises errors instead of printing them

# Hydra's options whose value is the next word.
WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
}

QUIET = "TRANSFORMERS_VERBOSITY"  # read when transformers is imported, which commands do late


def command(
    config_name: str,
    flags: Mapping[str, str] = MappingProxyType({}),
    after_sweep: Callable[[Sequence[JobReturn]], None] = lambda jobs: None,
) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a config a command: `python -m spt.<module> key=value ...`.

    An error ends the command with one message on standard error and exit code 1, with `-v` or HYDRA_FULL_ERROR=1 with a
    traceback. In a multirun the other runs are finished first.

    Args:
        config_name: the file in `conf` with the command's config.
        flags: options, such as --dry-run, and the overrides that they stand for.
        after_sweep: called at the end of a multirun with its jobs.
    """

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        def run() -> None:
            words = [flags.get(word, word) for word in sys.argv[1:]]
            verbose = "-v" in words or os.environ.get(FULL_ERROR, "") not in ("", "0")
            environment = {FULL_ERROR: "1", QUIET: os.environ.get(QUIET, "error")}
            with tolerant_output(), env_override(environment), errors_as_messages(verbose):
                if "--help" in words or "-h" in words:
                    print(usage(config_name))
                    return
                is_sweep = not {"-m", "--multirun"}.isdisjoint(words)
                arguments = [verbatim(word, is_sweep) for word in words if word != "-v"]
                sys.argv[1:] = options_last(arguments)
                call = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
                multirun.returns.clear()
                call(as_job(main, config_name, verbose))()
                after_sweep(multirun.returns)
                if failures := multirun.failed_runs():
                    sys.exit(f"error: {failures}")

        return run

    return decorate


def options_last(arguments: Sequence[str]) -> list[str]:
    """The arguments with all overrides first: argparse takes options before or after them, but not between them."""
    overrides, options = list[str](), list[str]()
    words = iter(arguments)
    for word in words:
        (options if word.startswith("-") else overrides).append(word)
        if word in WITH_VALUE:
            options += islice(words, 1)
    return overrides + options


def as_job(main: Callable[[DictConfig], Any], config_name: str, verbose: bool) -> Callable[[DictConfig], Any]:
    """Turn a command's function into the one that Hydra calls for each run.

    An error in a single run ends the process with a message. In a multirun the job prints the message and returns it in
    the place of a score: see `spt.sweeps.multirun`.
    """

    @wraps(main)
    def job(config: DictConfig) -> Any:
        try:
            refuse_ignored(config, config_name, job_overrides())
            refuse_unused_files()
            if distributed.count() > 1 and (config_name != "train" or sweep_name() is not None):
                raise SptError(
                    "several processes do one run of spt.train: leave out torchrun here, and unset WORLD_SIZE"
                )
            with tolerant_output():  # a job in a process of its own
                return main(config)
        except BrokenPipeError:  # the reader of the predictions, such as `head`, has closed them
            sys.exit(1)
        except Exception as error:
            if sweep_name() is not None and distributed.count() == 1:
                print(format_exc() if verbose else f"error: {explain(error)}", file=sys.stderr)
                return explain(error)
            if verbose:
                raise
            sys.exit(last_words(error))

    return job


@contextmanager
def errors_as_messages(verbose: bool) -> Iterator[None]:
    """End the process with a message and the exit code of what was raised; if `verbose`, with the traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Preempted as end:
        if distributed.is_main():
            print(end, file=sys.stderr)
        raise
    except Exception as error:
        if verbose:
            raise
        sys.exit("\n".join(filter(None, (last_words(error), multirun.failed_runs()))))


def last_words(error: BaseException) -> str:
    """The message that ends a command; of several processes only one returns, the others end without a message."""
    process = distributed.reporter(error)
    return f"error: {process}{explain(error)}"


def sweep_name() -> str | None:
    """The name of the multirun's folder, the same for all its runs; None outside a multirun."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name


def refuse_ignored(config: DictConfig, config_name: str, overrides: Sequence[str]) -> None:
    """Refuse overrides that Hydra accepts and this command would ignore or miss.

    Raises:
        SptError: if an override adds an option that the command does not read (+option=...), or removes one (~option).
    """
    command_config: Any = OmegaConf.load(CONF / f"{config_name}.yaml")
    groups = [
        str(name).split()[-1]
        for entry in command_config.defaults
        for name in (entry if isinstance(entry, DictConfig) else [entry])
    ]
    known = {*map(str, command_config), *groups, *(f"{group}s" for group in groups)}
    for override in overrides:
        name = override.partition("=")[0].lstrip("+")
        if override.startswith("~"):
            raise SptError(f"{override}: an option cannot be removed; give {name[1:]} another value, or null for none")
        outer = re.split(r"[.@\[]", name)[0]
        if override.startswith("+") and outer not in known and f"${{{outer}" not in OmegaConf.to_yaml(config):
            raise SptError(f"unknown option {name!r}: {nearest(outer, known - {'defaults', 'hydra'})}")


def refuse_unknown_recipe(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse `recipe=<name>` without a file of this name, which Hydra ignores because recipes are optional.

    Raises:
        SptError: with the names that are close.
    """
    for override in overrides:
        key, _, name = override.partition("=")
        if key == "recipe" and name != "none" and config.recipe is None:
            raise SptError(f"unknown recipe {name!r}: {nearest(name, recipes())}")
