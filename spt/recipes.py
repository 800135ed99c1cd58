"""The published hyperparameters that ship in `conf/recipe`."""

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from spt.paths import CONF


@cache
def recipes() -> list[str]:
    """The names of all recipes: <method>/<task>/<model>."""
    folder = CONF / "recipe"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*/*.yaml"))


@cache
def recipe_setting(recipe: str, key: str) -> Any:
    """The value of a key like method.prefix_length in a recipe; None if the recipe is missing or does not set it."""
    path = CONF / "recipe" / f"{recipe}.yaml"
    return OmegaConf.select(OmegaConf.load(path), key) if path.exists() else None
