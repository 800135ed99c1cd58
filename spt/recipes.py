"""The hyperparameters in `conf/recipe`, which are published, and in the `recipe` folders of `--config-dir`."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from spt.path_overrides import own_folders
from spt.paths import CONF


def recipes() -> list[str]:
    """The names of all recipes: <method>/<task>/<model>."""
    files = [(folder, path) for folder in recipe_folders() for path in folder.glob("*/*/*.yaml")]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for folder, path in files)


def recipe_folders() -> list[Path]:
    """The folders that hold recipes."""
    return [folder / "recipe" for folder in (CONF, *own_folders())]


def recipe_setting(recipe: str, key: str) -> Any:
    """The value of a key like method.prefix_length in a recipe; None if the recipe is missing or does not set it."""
    path = next((path for folder in recipe_folders() if (path := folder / f"{recipe}.yaml").exists()), None)
    return None if path is None else OmegaConf.select(_content(path.absolute()), key)


@cache
def _content(path: Path) -> Any:
    return OmegaConf.load(path)
