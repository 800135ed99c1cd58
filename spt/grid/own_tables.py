"""Choose `results_dir` so that a user's own tables do not overwrite the project's published records and report."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from spt.console import errors
from spt.path_overrides import job_overrides
from spt.paths import CONF

RESULTS = "results"  # the folder inside output_dir


def settle_results_dir(config: DictConfig) -> None:
    """Set `results_dir` to `<output_dir>/results`, unless it is given or the grid is the project's.

    The project's grid has tables and profiles as they are in `conf`, and the default `output_dir`. The smoke profile
    has a folder of its own already.

    Args:
        config: of `spt.reproduce` or `spt.report`, which is the running command.
    """
    given = {override.partition("=")[0].lstrip("+") for override in job_overrides()}
    if "results_dir" in given or "smoke" in config.get("profiles", ()) or _is_the_projects(config):
        return
    with open_dict(config):
        config.results_dir = str(Path(str(config.output_dir)) / RESULTS)
    errors.print(
        f"tables, profiles or output_dir are not the project's, so records and report go to {config.results_dir} "
        "(results_dir=... sets another folder)"
    )


def _is_the_projects(config: DictConfig) -> bool:
    return config.output_dir == OmegaConf.load(CONF / "reproduce.yaml").output_dir and all(
        _is_shipped(group, str(name), part)
        for group in ("table", "profile")
        for name, part in OmegaConf.to_container(config.get(f"{group}s", OmegaConf.create({}))).items()  # type: ignore[union-attr]
    )


def _is_shipped(group: str, name: str, part: Any) -> bool:
    path = CONF / group / f"{name}.yaml"
    return path.is_file() and OmegaConf.to_container(OmegaConf.load(path)) == part
