"""The hyperparameters in `conf/recipe`, which are published, and in the `recipe` folders of `--config-dir`."""

from typing import Any

from omegaconf import OmegaConf

from spt.path_overrides import own_folders
from spt.paths import CONF


def recipes() -> list[str]:
    """The names of all recipes: <method>/<task>/<model>."""
    folders = [folder / "recipe" for folder in (CONF, *own_folders())]
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for folder in folders for path in folder.glob("*/*/*.yaml")
    )


def recipe_setting(recipe: str, key: str) -> Any:
    """The value of a key like method.prefix_length in a recipe; None if the recipe is missing or does not set it."""
    paths = [folder / "recipe" / f"{recipe}.yaml" for folder in (CONF, *own_folders())]
    path = next((path for path in paths if path.exists()), None)
    return None if path is None else OmegaConf.select(OmegaConf.load(path), key)
