"""What a command answers to `--help`: its config as it stands in its file, with what its groups can be.

Hydra's own help takes seconds where there are many groups, and lists those of all commands.
"""

import re
import textwrap
from typing import Any

from omegaconf import OmegaConf

from spt.paths import CONF

ALSO = """
--cfg job shows the whole config, with what the groups bring. -v shows where an error comes from. --hydra-help tells of
Hydra's own options; of them, --multirun takes lists, key=a,b, and runs all combinations.
"""


def usage(config_name: str) -> str:
    """The help on a command, for people."""
    path = CONF / f"{config_name}.yaml"
    first, *blocks = re.split(r"\n(?=\w)", path.read_text(encoding="utf-8").strip())
    settings = "\n".join(block.rstrip() for block in blocks if not block.startswith(("defaults:", "hydra:")))
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    chosen = [choice for entry in config["defaults"] if isinstance(entry, dict) for choice in entry.items()]
    groups = [
        _group(group, default) for group, default in chosen if " " not in group
    ]  # none to override, none optional
    lines = [first.split("\n")[0].removeprefix("# ")]
    if groups:
        lines += ["", "Groups, group=name, with the default in brackets:", *groups]
    return "\n".join([*lines, "", "Settings, key=value:", textwrap.indent(settings, "  "), ALSO])


def _group(group: str, default: Any) -> str:
    names = " ".join(sorted(path.stem for path in (CONF / group).glob("*.yaml")))
    chosen = ", ".join(default) if isinstance(default, list) else default or "none"
    start = f"  {group} [{chosen}]: "
    return textwrap.fill(names, 120, initial_indent=start, subsequent_indent="    ", break_on_hyphens=False)
