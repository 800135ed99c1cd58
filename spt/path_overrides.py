"""Overrides whose values are paths or texts: Hydra's grammar does not apply to them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from spt.errors import SptError
from spt.paths import CONF

TEXTS = {"text", "text_pair"}
OUTPUTS = {"output", "output_dir", "results_dir"}
INPUTS = {
    *("run", "runs", "merge", "input", "file", "base_model", "data_dir", "model_dir", "model.name_or_path"),
    *("task.train", "task.validation", "task.test", "task.data_dir"),
}

# Text that Hydra's grammar reads as it is, except for the words that it reads as something else than text.
PLAIN = re.compile(r"(?!(null|true|false|nan|inf)$)(?:[A-Za-z/]|\.\.?/)[\w./-]*", re.ASCII | re.IGNORECASE)


def verbatim(argument: str, is_sweep: bool = False) -> str:
    """An argument of a command as Hydra should get it.

    Texts are quoted, and so are paths that exist, that Hydra cannot parse, or that it would read as a number. Quotes,
    lists, interpolations (`${...}`), `null` and, if `is_sweep`, the values of a sweep are left to Hydra.

    Raises:
        SptError: if the argument is not UTF-8.
    """
    key, equals, value = argument.partition("=")
    name = key.lstrip("+")
    if argument.encode(errors="replace").decode() != argument:
        raise SptError(f"{name} is not UTF-8 (where the locale is not UTF-8, set PYTHONUTF8=1)")
    if not equals or name not in TEXTS | INPUTS | OUTPUTS or (not value and name not in TEXTS):
        return argument
    if name in TEXTS:
        return f"{key}={quoted(value)}"
    home = os.path.expanduser(value)
    to_quote = f"{key}={quoted(home if name in OUTPUTS else value)}"
    if os.path.exists(home):
        return to_quote
    is_list = value[0] == "[" and value[-1] == "]"
    try:
        parsed = _parse(argument)
    except HydraException:
        if name in OUTPUTS or "," not in value or not (is_sweep or is_list):
            return to_quote
        paths = (value[1:-1] if is_list else value).split(",")
        if not all(os.path.exists(os.path.expanduser(path)) for path in paths):
            return argument  # Hydra's message says how to quote
        several = ",".join(map(quoted, paths))
        return f"{key}=[{several}]" if is_list else f"{key}={several}"
    if parsed.is_sweep_override() or isinstance(parsed.value(), list):
        return to_quote if name in OUTPUTS and not is_sweep else argument
    return to_quote if isinstance(parsed.value(), bool | int | float) else argument  # a folder called 2024


def assignment(key: str, value: Any) -> str:
    """The override that sets `key` to a Python value, a text as it is; ~ is the home folder where runs are written."""
    if key in OUTPUTS and isinstance(value, str | PurePath):
        value = os.path.expanduser(value)
    return f"{key}={_literal(value)}"


def plain(override: str) -> str:
    """An override of Hydra as a user would type it: a path without the quotes that `verbatim` gives it."""
    parsed = _parse(override)
    if isinstance(parsed._value, QuotedString) and "${" not in parsed._value.text.replace("\\${", ""):
        typed = f"{parsed.get_key_element()}={OmegaConf.create([parsed._value.text])[0]}"
        if verbatim(typed) != typed and _parse(verbatim(typed)).value() == parsed.value():
            return typed
    return override


def job_overrides() -> list[str]:
    """The overrides of the command or the job that Hydra runs in this process."""
    return OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)  # type: ignore[return-value]


def own_config_dir() -> list[str]:
    """The option that names the command's own config folder, seen from the current folder; empty if it has none."""
    return [word for folder in own_folders() for word in ("--config-dir", folder.as_posix())]


def refuse_unused_files() -> None:
    """Refuse a file of the command's own config folder that Hydra would not use, or not under its name.

    Raises:
        SptError: if `conf` has a file of this name, which is used instead; if a table's package is not its file's
            name; or if a recipe lacks its name and source, or its package.
    """
    for folder in own_folders():
        for used in CONF.glob("*/**/*.yaml"):
            name = used.relative_to(CONF)
            path = folder / name
            if path.is_file() and not path.samefile(used):
                raise SptError(
                    f"{path}: spt has a file {name.as_posix()}, which is used instead: give yours another name"
                )
        for path in (folder / "table").glob("*.yaml"):
            if f"@package tables.{path.stem}" not in path.read_text(encoding="utf-8"):
                raise SptError(f"{path}: its first line must be '# @package tables.{path.stem}', with the file's name")
        for path in (folder / "recipe").glob("*/*/*.yaml"):
            text = path.read_text(encoding="utf-8")
            if "@package _global_" not in text:
                raise SptError(f"{path}: its first line must be '# @package _global_'")
            block = OmegaConf.select(OmegaConf.create(text), "recipe")
            if not isinstance(block, DictConfig) or not {"name", "source", "note"} <= block.keys():
                raise SptError(f"{path} needs its name and source: recipe: {{name: ..., source: ..., note: null}}")


def own_folders() -> list[Path]:
    """The command's own config folders, seen from the current folder."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [Path(os.path.relpath(source.path)) for source in sources if source.provider == "command-line"]


def quoted(value: str) -> str:
    """A text in Hydra's single quotes, unless Hydra reads it as it is."""
    if PLAIN.fullmatch(value):
        return value
    # In quotes, Hydra reads a backslash as an escape only in front of a quote.
    value = re.sub(r"(\\*)'", r"\1\1\\'", escaped(value))
    value = re.sub(r"(\\+)$", r"\1\1", value)  # the closing quote follows
    return f"'{value}'"


def escaped(value: Any) -> Any:
    """Resolved settings for OmegaConf, which would read `${...}` in their texts as an interpolation."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _parse(override: str) -> Override:
    (parsed,) = OverridesParser.create().parse_overrides([override])
    return parsed


def _literal(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value  # numpy's numbers
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int() | float():
            return repr(value)
        case str() | PurePath():
            return quoted(str(value))
        case Mapping():
            return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_literal, value)) + "]"
    raise SptError(f"{value!r} is no value of a setting: give text, a number, a boolean, None, a list or a dict")
