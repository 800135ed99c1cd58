"""Runs of a grid through one of Hydra's launchers, as `spt.train --multirun` would start them."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from spt.explain_error import explain
from spt.hydra_overrides import quoted
from spt.records.folder_lock import Busy
from spt.records.run_folder import RunFolder
from spt.records.schema import RECORD
from spt.sweeps.hydra_launchers import check, come_back
from spt.training.experiment import run_experiment
from spt.training.loop import Diverged

LEFT = "left to another process"


def launch(jobs: Mapping[str, Sequence[str]], output_dir: Path, runs_per_gpu: int) -> dict[str, str]:
    """Run each job (by name: overrides of `spt.train`) through the launcher that the present command names.

    A job that fails leaves a note in its folder, and the others go on, as they do where one dies. Without
    `hydra/launcher=...` they run in this process, one after the other; with `hydra.sweeper.max_batch_size` the launcher
    gets that many at a time.

    Returns:
        By the names of jobs what is to be said of them: LEFT, where another process is at work on it, or why it failed.
    """
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    sharing = f"runs_per_gpu={runs_per_gpu}"
    overrides = [*HydraConfig.get().overrides.hydra, sharing, quoted(f"output_dir={output_dir}", ("output_dir",))]
    config = hydra.compose_config("train", overrides, RunMode.MULTIRUN, with_log_configuration=False)
    check(config)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=quietly, config=config)
    size = config.hydra.sweeper.max_batch_size or len(jobs)
    names, said = list(jobs), dict[str, str]()
    for first in range(0, len(jobs), size):
        batch = names[first : first + size]
        returns = come_back(launcher, [[*jobs[name], sharing] for name in batch], first)
        values = {name: back._return_value for name, back in zip(batch, returns, strict=True)}
        said |= {name: str(value) for name, value in values.items() if value is not None}
    return said


def quietly(config: DictConfig) -> str | None:
    """A run of `spt.train` whose words go to its own log alone; where it fails, a note in its folder says why.

    Returns:
        What there is to say beside that: LEFT where another process is at work on it; why it failed where no note could
        be written, or an earlier result stands in its place.
    """
    run = RunFolder(config)
    before = _written(run)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            run_experiment(config)
        except Busy:
            return LEFT
        except Diverged:
            return None  # as its record says
        except Exception as error:
            if _written(run) != before:
                return None
            if before is not None:
                return f"{explain(error)} (its earlier result is kept)"
            try:
                run.write_failure(explain(error))
            except OSError:
                return explain(error)
    return None


def _written(run: RunFolder) -> int | None:
    """When the run's record was written."""
    path = run.folder / RECORD
    return path.stat().st_mtime_ns if path.exists() else None
