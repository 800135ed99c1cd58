"""The linters and the type checker."""

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
