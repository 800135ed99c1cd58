"""The published hyperparameters that ship in `conf/recipe`."""

from typing import Any

from omegaconf import OmegaConf

from spt.paths import CONF


def recipes() -> list[str]:
    """The names of all recipes: <method>/<task>/<model>."""
    folder = CONF / "recipe"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*/*.yaml"))


def recipe_setting(recipe: str, key: str) -> Any:
    """What a recipe sets a key like method.prefix_length to; None where it does not, or is not there."""
    path = CONF / "recipe" / f"{recipe}.yaml"
    return OmegaConf.select(OmegaConf.load(path), key) if path.exists() else None
