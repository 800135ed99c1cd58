"""The version of the code that makes a result: a record keeps it, and the report marks what came of another."""

import ast
import hashlib
import io
import subprocess
import tokenize
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

# What defines a result: methods, heads, training, tasks, scores. What reads, shows and keeps it is not among it.
DEFINING = (
    *("attention", "blockwise", "dropout", "prefix", "lora", "methods", "bridges", "encoder", "backbone", "model"),
    *("training", "tasks", "superglue", "custom", "readers", "metrics"),
)


def digests(source: Callable[[str], str | None] | None = None) -> dict[str, str]:
    """A digest of each module that defines results, by its name.

    Args:
        source: gives a module's text, None where there is no such module; by default that of this version.
    """
    texts = {name: (source or _here)(name) for name in DEFINING}
    return {name: digest(text) for name, text in texts.items() if text is not None}


def changed_since(record: dict[str, Any]) -> list[str]:
    """The modules that define results and are not what they were when a record was made; all where it does not say."""
    now, then = running(), record["code"] or {}
    return sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))


@cache
def running() -> dict[str, str]:
    """The digests of the code that this process runs: of when this was first asked."""
    return digests()


def git_state() -> dict[str, Any]:
    """The commit of this code, and whether the working tree differs from it; None where there is no repository.

    What lies in `results/` is no code: a report that was just written there makes no difference.
    """
    commit = git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": None if commit is None else bool(git("status", "--porcelain", "--", ":/", ":(top,exclude)results")),
    }


def git(*arguments: str) -> str | None:
    """What git says in the repository of this code; None where it fails, or there is neither."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def digest(source: str) -> str:
    """A hash of Python source without its comments, docstrings and blank lines."""
    lines = source.splitlines()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            said = node.body[0]
            left_out |= set(range(said.lineno - 1, said.end_lineno or said.lineno))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = [line.rstrip() for number, line in enumerate(lines) if number not in left_out and line.strip()]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:12]


def _here(name: str) -> str | None:
    path = Path(__file__).with_name(f"{name}.py")
    return path.read_text(encoding="utf-8") if path.exists() else None
