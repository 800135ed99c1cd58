"""Train one method on one task: `python -m spt.train task=rte method=spt`, or `spt.train(task="rte", method="spt")`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from signal import raise_signal
from threading import Lock
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spt.command import command, refuse_ignored, refuse_unknown_recipe, sweep_name
from spt.console import tolerant_output
from spt.errors import SptError
from spt.explain_error import explain
from spt.path_overrides import assignment, escaped, job_overrides, verbatim
from spt.paths import CONF
from spt.sweeps.multirun import refuse_search_without_multirun
from spt.training.preemption import SUBMITIT_SIGNAL, Preempted

_TRAINING = Lock()


def show_sweep(jobs: Sequence[JobReturn]) -> None:
    """Print what the runs of a sweep have come to: means over seeds, by what varies."""
    from spt.grid.run_table import show_means
    from spt.records.fingerprint import folder_of
    from spt.records.schema import RECORD, read_record

    records = {}
    for job in jobs:
        if job.cfg is None:
            continue
        config: Any = OmegaConf.to_container(job.cfg, resolve=True)
        path = folder_of(config) / RECORD
        if not path.is_file():
            continue
        record = read_record(path)
        # A run that failed may have an earlier record; one that diverged has its own.
        if not isinstance(job.return_value, str) or record["status"] == "diverged":
            records[path] = record
    if records:
        show_means(list(records.values()))


@command("train", after_sweep=show_sweep)
def main(config: DictConfig) -> float:
    """Train the run that the config describes, or show its result if it is already finished.

    Returns:
        The best dev score, by which a search chooses.
    """
    overrides = job_overrides()
    refuse_unknown_recipe(config, overrides)
    refuse_search_without_multirun()
    if config.dry_run is True:
        check_settings(config)
        from spt.training.dry_run import dry_run

        dry_run(config)
        return float("nan")
    return _run(config, overrides, sweep_name())["metrics"]["best_dev"]


def train(config: DictConfig | Sequence[str] = (), /, **settings: Any) -> dict[str, Any]:
    """Train one run, or read its record if it is already finished: `python -m spt.train` from Python.

    The run uses the same folder, messages and checkpoints as the command. It seeds Python's, NumPy's and torch's
    random numbers. Calls from several threads run one by one.

    Args:
        config: overrides as on the command line, `["task=rte", "method.prefix_length=5"]`, or a whole config that Hydra
            composed from `conf/train.yaml`.
        settings: overrides as Python values: `task="rte", **{"method.prefix_length": 5}`.

    Returns:
        The run's record.

    Raises:
        Diverged: an SptError: the loss became infinite or NaN. The record is in the run's folder.
        SptError: where the config or what it names is wrong.
        KeyboardInterrupt: upon Ctrl-C, once a checkpoint is written: the same call resumes.
    """
    if isinstance(config, DictConfig) and settings:
        raise SptError("give spt.train a composed config or overrides, not both")
    with _TRAINING, tolerant_output(), _libraries_as_found():
        try:
            if isinstance(config, DictConfig):
                return _run(_resolved(config), None)
            typed = [config] if isinstance(config, str) else config
            overrides = [*map(verbatim, typed), *(assignment(key, value) for key, value in settings.items())]
            return _run(_composed(overrides), overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise SptError(explain(error)) from error
        except Preempted as end:
            if end.number != SUBMITIT_SIGNAL:
                raise_signal(end.number)  # the caller's handler is in place again
            raise


def _run(config: DictConfig, overrides: Sequence[str] | None, group: str | None = None) -> dict[str, Any]:
    from spt.console import show_result

    if config.get("dry_run") is True:
        raise SptError("dry_run is for the command: spt.train returns the record of a run")
    check_settings(config)
    from spt.records.comparable_settings import other_weights
    from spt.report.published_numbers import published
    from spt.training.run_experiment import run_experiment

    def show(record: dict[str, Any], note: str | None) -> None:
        names = (config[name].name for name in ("task", "model", "method"))
        references = published(*names) if other_weights(config.model) is None else []
        show_result(record, references, note)

    return run_experiment(config, overrides, show, group)


def check_settings(config: DictConfig) -> None:
    """Refuse wrong settings of the training before torch is imported, which takes seconds."""
    from spt.training.trainer_schema import checked_settings

    trainer: Any = OmegaConf.to_container(config.trainer, resolve=True, throw_on_missing=True)
    checked_settings(trainer)


def _composed(overrides: list[str]) -> DictConfig:
    if searches := [override for override in overrides if override.startswith("hparams_search=")]:
        raise SptError(f"{searches[0]} is for a search: python -m spt.train --multirun")
    with _own_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose("train", overrides)
        except ValueError as error:  # null for a group
            raise SptError(explain(error)) from error
    refuse_ignored(config, "train", overrides)
    refuse_unknown_recipe(config, overrides)
    return config


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Let Hydra be initialised in the block, also where the program has done that already, and restore its state."""
    program, base = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = program
        VersionBase.instance().version_base = base


@contextmanager
def _libraries_as_found() -> Iterator[None]:
    """Restore what a run sets in other libraries: the progress bars of datasets, and the precision of products."""
    from datasets import are_progress_bars_disabled, enable_progress_bars

    from spt.modeling.matmul_precision import matmul_precision

    quiet = are_progress_bars_disabled()
    try:
        with matmul_precision():
            yield
    finally:
        if not quiet:
            enable_progress_bars()


def _resolved(config: DictConfig) -> DictConfig:
    """A copy of a whole config, without interpolations."""
    content: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    needed = {str(key) for key in OmegaConf.load(CONF / "train.yaml")} - {"defaults", "hydra"} | {"method", "trainer"}
    if missing := sorted((needed | {"logger"}) - content.keys()):
        raise SptError(f"the config lacks {', '.join(missing)}: compose it from conf/train.yaml, or give overrides")
    return OmegaConf.create(escaped({key: value for key, value in content.items() if key != "hydra"}))


if __name__ == "__main__":
    main()
