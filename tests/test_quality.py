"""The linters and the type checker."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import REPO


def check(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff():
    check("ruff", "check", ".")


def test_format():
    check("ruff", "format", "--check", ".")


@pytest.mark.slow
def test_types():
    check("mypy")


def test_a_module_is_read_at_one_sitting():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (REPO / "spt").rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > 450} == {}
    assert lines[REPO / "spt/training/loop.py"] <= 300


def test_no_variable_is_a_pronoun():
    names = {
        node.id if isinstance(node, ast.Name) else node.arg
        for path in (REPO / "spt").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.arg)
    }
    assert names & {"its", "theirs", "ours", "found", "said"} == set()
