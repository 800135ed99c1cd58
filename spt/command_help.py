"""The answer to `--help`: the settings of a command from its config file, and the choices of its groups.

Hydra's own help takes seconds because there are many groups, and it lists the groups of all commands.
"""

import re
import textwrap
from typing import Any

from omegaconf import OmegaConf

from spt.paths import CONF

MORE = """
--cfg job shows the whole config, groups included. -v shows the traceback of an error. --hydra-help lists Hydra's own
options. One of them is --multirun: it takes lists, key=a,b, and runs all combinations.
"""


def usage(config_name: str) -> str:
    """The help text of the command with this config."""
    path = CONF / f"{config_name}.yaml"
    first, *blocks = re.split(r"\n(?=\w)", path.read_text(encoding="utf-8").strip())
    settings = "\n".join(block.rstrip() for block in blocks if not block.startswith(("defaults:", "hydra:")))
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    choices = [choice for entry in config["defaults"] if isinstance(entry, dict) for choice in entry.items()]
    # A space is in "override hydra/..." and in "optional recipe", which are not for the command line.
    groups = [_group(group, default) for group, default in choices if " " not in group]
    lines = [first.split("\n")[0].removeprefix("# ")]
    if groups:
        lines += ["", "Groups, group=name, with the default in brackets:", *groups]
    return "\n".join([*lines, "", "Settings, key=value:", textwrap.indent(settings, "  "), MORE])


def _group(group: str, default: Any) -> str:
    names = " ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
    chosen = ", ".join(default) if isinstance(default, list) else default or "none"
    start = f"  {group} [{chosen}]: "
    return textwrap.fill(names, 120, initial_indent=start, subsequent_indent="    ", break_on_hyphens=False)
