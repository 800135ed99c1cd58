"""`spt <command>`: the commands, their help and completion; and the wheel, away from the repository."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import spt
from spt import __main__ as console_command
from spt.command import options_last
from tests.conftest import REPO, run


@pytest.fixture
def spt_command(monkeypatch, capsys):
    """`spt <arguments>` in this process: returns (exit code, output)."""

    def call(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/spt", *arguments])
        monkeypatch.setattr(sys, "path", sys.path[:])
        code: object = 0
        try:
            console_command.main()
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().out

    return call


def test_help_lists_every_command(spt_command):
    code, out = spt_command("--help")
    assert code == 0 and spt_command() == (code, out)
    for name in console_command.COMMANDS:
        assert f"\n  {name} " in out
        code, help_of_command = spt_command(name, "--help")
        assert code == 0 and help_of_command.startswith(f"python -m spt.{name} "), name


def test_every_command_is_one(spt_command):
    calling = {path for path in (REPO / "spt").rglob("*.py") if "\n@command(" in path.read_text(encoding="utf-8")}
    assert {path.parent.name if path.stem == "__main__" else path.stem for path in calling} == (
        console_command.COMMANDS.keys()
    )


def test_the_version_and_an_unknown_command(spt_command):
    assert spt_command("--version") == (0, f"spt {spt.__version__}\n")
    code, _ = spt_command("trian", "task=rte")
    assert str(code).startswith("error: unknown command 'trian': did you mean 'train'?")


def test_a_command_is_that_of_python_m(spt_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out = spt_command("train", "task=demo_choice", "model=demo", "trainer.max_steps=1")
    assert code == 0 and "best dev" in out
    (path,) = (tmp_path / "runs").glob("*/record.json")
    command = "python -m spt.train task=demo_choice model=demo trainer.max_steps=1"
    assert json.loads(path.read_text())["command"] == command
    assert spt_command("runs")[1].count("demo_choice") == 1
    assert sys.path[0] == str(tmp_path)  # a config may name a class in a file of one's own


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("spt ", " ".join(console_command.COMMANDS)),
        ("spt tr", " ".join(console_command.COMMANDS)),  # the shell chooses
        ("spt nope x", ""),
        ("spt train task=demo", "task=demo_choice task=demo_ner task=demo_pair"),
        ("spt train task=demo_pair method=spt_sl method.sl", "method.sl_weight="),
        ("spt  predict bat", "batch_size="),
    ],
)
def test_completion(line, expected, spt_command, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    assert spt_command("-sc", "query=bash") == (0, f"{expected}\n")


def test_windows_is_refused_in_one_message():
    done = run("-c", "import sys; sys.modules['fcntl'] = None; import spt")
    assert done.returncode == 1 and done.stderr.endswith(
        "ImportError: spt needs Linux or macOS; on Windows, use it in WSL (Windows Subsystem for Linux)\n"
    )


def test_every_folder_of_the_package_is_installed():
    listed = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(REPO).parts) for path in (REPO / "spt").rglob("__init__.py")}
    assert set(listed) == folders | {"spt.conf", "spt.reference", "hydra_plugins"}


# What bash does when the tab key is pressed after the words of $1.
TAB = """
eval "$(spt -sc install=bash)"
tab() {
    COMP_LINE="$1" COMP_POINT=${#1}; read -ra COMP_WORDS <<< "$1"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    $(complete -p spt | sed -E 's/.*-F ([^ ]+).*/\\1/'); echo "${COMPREPLY[*]}"
}
tab "spt tr"; tab "spt train task=demo_pair method=sp"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the package as `pip install` leaves it, from a wheel that is built from an sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("spt", "conf", "hydra_plugins", "results/reference"):
        shutil.copytree(REPO / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)

    def python(*arguments: str, cwd: Path) -> None:
        done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    python("-c", f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})", cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    python("-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(sdist), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    python("-m", "pip", "install", *options, "--target", str(folder / "site"), str(wheel), cwd=folder)
    shutil.rmtree(source)
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed), "PATH": f"{installed / 'bin'}:{os.environ['PATH']}"}

    def call(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout

    def files() -> set[str]:
        return {str(path) for path in installed.rglob("*") if "__pycache__" not in path.parts}

    before = files()
    assert call("spt", "--version") == f"spt {spt.__version__}\n"
    assert "python -m spt.train " in call("spt", "train", "--help")
    settings = ("task=demo_pair", "model=demo", "trainer.max_steps=1", "seed=1,2")
    sweep = ("--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    call("spt", "train", *settings, *sweep)
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/*/record.json"))]
    assert len(records) == 2 and {record["git"]["commit"] for record in records} == {None}
    run_folder = str(next(tmp_path.glob("runs/demo_pair*")))
    assert '"label"' in call("spt", "predict", f"run={run_folder}", "text=a", "text_pair=b")
    assert "the recorded scores exactly" in call("spt", "evaluate", f"run={run_folder}")
    assert call("spt", "runs").count("demo_pair") == 2
    assert "results/README.md" in call("spt", "report", "table=ner")
    assert "authors-release@a7b9e97" in (tmp_path / "results/tables/ner.md").read_text()
    assert "runs to do" in call("spt", "reproduce", "table=ner", "--dry-run")
    assert call("bash", "-c", TAB).splitlines() == ["train", "method=spt method=spt_sl"]
    trained = "import spt; print(spt.train(task='demo_pair', model='demo', seed=1, **{'trainer.max_steps': 1})['seed'])"
    assert call(sys.executable, "-c", trained).endswith("1\n")
    assert files() == before


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("task=a --config-dir b=c d=1 -m", "task=a d=1 --config-dir b=c -m"),
        ("--cfg job task=a", "task=a --cfg job"),
        ("task=a ~b --info", "task=a ~b --info"),
        ("-m --config-dir=b task=a,c", "task=a,c -m --config-dir=b"),
    ],
)
def test_options_stand_after_all_overrides(typed, read):
    assert options_last(typed.split()) == read.split()
