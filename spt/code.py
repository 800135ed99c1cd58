"""The commit of this code, for the record of a run."""

import subprocess
from pathlib import Path
from typing import Any


def git_state() -> dict[str, Any]:
    """The commit of this code, and whether the working tree differs from it; None where there is no repository.

    Files in `results/` do not count: a report that was just written changes no code.
    """
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(_git("status", "--porcelain", "--", ":/", ":(top,exclude)results")),
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
