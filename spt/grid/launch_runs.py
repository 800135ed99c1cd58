"""Start the runs of a grid through one of Hydra's launchers, as `spt.train --multirun` does."""

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
from spt.path_overrides import assignment, job_overrides
from spt.records.folder_lock import Busy
from spt.records.run_folder import RunFolder
from spt.records.schema import RECORD
from spt.sweeps.hydra_launchers import check, run_jobs
from spt.training.loop import Diverged
from spt.training.run_experiment import run_experiment

LEFT = "left to another process"


def launch(jobs: Mapping[str, Sequence[str]], output_dir: Path, runs_per_gpu: int) -> dict[str, str]:
    """Run each job through the launcher that the command's `hydra/launcher=...` names.

    A job that fails writes a note to its folder; the others still run, also if a job's process dies. Without
    `hydra/launcher=...` the jobs run in this process, one after the other. With `hydra.sweeper.max_batch_size` the
    launcher gets that many at a time.

    Args:
        jobs: the overrides of `spt.train` of each job, by its name.
        output_dir: the folder of the runs.
        runs_per_gpu: how many runs may share one GPU.

    Returns:
        By the names of jobs: LEFT if another process is working on the job, or why the job failed.
    """
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    sharing = f"runs_per_gpu={runs_per_gpu}"
    overrides = [*HydraConfig.get().overrides.hydra, sharing, assignment("output_dir", output_dir)]
    config = hydra.compose_config("train", overrides, RunMode.MULTIRUN, with_log_configuration=False)
    check(config)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=quietly, config=config)
    size = config.hydra.sweeper.max_batch_size or len(jobs)
    names, messages = list(jobs), dict[str, str]()
    for first in range(0, len(jobs), size):
        batch = names[first : first + size]
        returns = run_jobs(launcher, [[*jobs[name], sharing] for name in batch], first)
        values = {name: back.return_value for name, back in zip(batch, returns, strict=True)}
        messages |= {name: str(value) for name, value in values.items() if value is not None}
    return messages


def quietly(config: DictConfig) -> str | None:
    """Run `spt.train` with its output in its own log only, and write a failure note to its folder if it fails.

    Returns:
        LEFT if another process is working on the run; why it failed if no note could be written or an earlier result
        is kept; else None.
    """
    overrides = job_overrides()
    run = RunFolder(config, overrides)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            run_experiment(config, overrides)
        except Busy:
            return LEFT
        except Diverged:
            return None  # its record has the status
        except Exception as error:
            if (run.folder / RECORD).exists():
                return f"{explain(error)} (its earlier result is kept)"
            try:
                run.write_failure(explain(error))
            except OSError:
                return explain(error)
    return None
