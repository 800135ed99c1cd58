"""The documentation is true: its commands run or compose, its Python runs, its links and paths exist.

The first line of a fenced block says what is tested. A `bash demo` block is run, command by command. The commands of
other `bash` blocks need a GPU, the hub or hours: their configs are composed. `python` blocks are run. A block with
`file=<path>` is the content of a file, which is written before anything of its page runs. In commands and Python, a run
with the fingerprint 0123456789ab stands for a demo run.
"""

import hashlib
import importlib.util
import itertools
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import spt
from spt.path_overrides import verbatim
from spt.paths import CONF
from tests.conftest import REPO, batch, run

PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (REPO / "docs").glob("*.md")))

ALL_PAGES = (*PAGES, "CHANGELOG.md", "results/benchmarks/NOTES.md", "results/benchmarks/README.md")

README_LINES = 150

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:make|python -m) [^`<$]+)`")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"(?<![\w/.-])(?:spt|conf|tests|scripts|results|docs)/[\w.*/-]*")
RUN = re.compile(r"runs/(\w+)\.([\w-]+\.\w+)\.0123456789ab")
SCORE = re.compile(r"\d+\.\d\d ± \d+\.\d\d|[+−]?\d+\.\d\d \[[^]]+\]")

BERT = "google-bert/bert-base-cased"
OTHER_PROGRAMS = ("ruff", ".", "python -m mypy")
PLUGINS = {
    "hydra/launcher=ray": "hydra_plugins.hydra_ray_launcher",
    "hparams_search": "hydra_plugins.hydra_optuna_sweeper",
}

# The files that the examples on the demo read.
INPUTS = {
    "train.csv": "review,stars\n" + "a good apple,5\na bad wagon,1\n" * 4,
    "dev.csv": "review,stars\na good wagon,5\na bad apple,1\n",
    "train.tsv": "question\tpassage\tscore\n" + "is it hot?\tthe sun burned\t1.5\nis it wet?\tit rained\t2.5\n" * 4,
    "dev.tsv": "question\tpassage\tscore\nis it cold?\tsnow fell\t0.5\nis it wet?\tit rained\t2.0\n",
    "train.jsonl": '{"premise": "it rained", "choice1": "it got wet", "choice2": "it broke", "label": 0}\n' * 4,
    "dev.jsonl": '{"premise": "it fell", "choice1": "it got wet", "choice2": "it broke", "label": 1}\n' * 2,
    "train.txt": "Ann B-PER\nsaw O\nRome B-LOC\n\nRome B-LOC\nslept O\n\n" * 4,
    "dev.txt": "Ann B-PER\nslept O\n\nRome B-LOC\nslept O\n\n",
    "test.txt": "Rome B-LOC\nsaw O\nAnn B-PER\n\n",
    "pairs.txt": "it rained\tit got wet\nit fell\tit broke\n",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line it begins in."""

    page: str
    line: int
    language: str
    info: str
    text: str

    @property
    def file(self) -> str | None:
        """The path whose content the block is."""
        return self.info.removeprefix("file=") if self.info.startswith("file=") else None

    @property
    def commands(self) -> list[str]:
        """The command lines of a bash block, continued lines joined, comments removed."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: str) -> list[Block]:
    text = (REPO / page).read_text()
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2].strip(), match[3])
        for match in BLOCK.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def parameters(selected: list[Block], slow: tuple[str, ...] = ()) -> list:
    """Those of pages in the folders `slow` are slow tests."""
    return [
        pytest.param(
            block, id=f"{block.page}:{block.line}", marks=[pytest.mark.slow] if block.page.startswith(slow) else []
        )
        for block in selected
    ]


def composed_commands() -> list:
    """Each command that is not run, once, and the page it is first in."""
    commands: dict[str, str] = {}
    for block in BLOCKS:
        if block.language == "bash" and block.info != "demo":
            commands |= {command: commands.get(command, block.page) for command in block.commands}
    for page in (*PAGES, "CHANGELOG.md"):
        for match in INLINE.finditer(BLOCK.sub("", (REPO / page).read_text())):
            command = shlex.join(shlex.split(match[1]))
            commands.setdefault(command, page)
    return [pytest.param(command, page, id=f"{page}: {command}") for command, page in commands.items()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """A short demo run for a task of pairs and one of entities."""
    folder = tmp_path_factory.mktemp("trained")
    runs = {}
    for task in ("demo_pair", "demo_ner"):
        run_command(
            "spt.train", [f"task={task}", "model=demo", "method=spt_sl", "trainer.max_steps=2", f"output_dir={folder}"]
        )
        (runs[task],) = folder.glob(f"{task}.*")
    return runs


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """The current folder, with the inputs of the examples."""
    for name, text in INPUTS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write_files(page: str, folder: Path) -> None:
    for block in BLOCKS:
        if block.page == page and block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)


def with_runs(text: str, trained: dict[str, Path]) -> str:
    """Text with real runs for the runs it names, those in the current folder first, and the demo's encoder for BERT."""

    def real(match: re.Match) -> str:
        here = sorted(Path("runs").glob(f"{match[1]}.{match[2]}.*"))
        return str(here[0] if here else trained.get(match[1], trained["demo_pair"]))

    return RUN.sub(real, text).replace(BERT, str(REPO / "spt/demo/encoder"))


def run_command(module: str, arguments: list[str]) -> None:
    """`python -m <module> <arguments>`, in this process."""
    argv, sys.argv = sys.argv, [module, *arguments]
    try:
        import_module("spt.report.__main__" if module == "spt.report" else module).main()
    except SystemExit as end:
        assert end.code in (None, 0), end.code
    finally:
        sys.argv = argv


def compose_command(module: str, arguments: list[str], folder: Path) -> None:
    """Compose the config of a command, for every combination of its lists, and check what Hydra leaves unchecked."""
    overrides, words = [], iter(arguments)
    for word in words:
        if word == "--config-dir":
            overrides.append(f"hydra.searchpath=[file://{folder / next(words)}]")
        elif word == "--cfg":
            assert next(words) == "job"
        elif word.startswith("--"):
            assert word in ("--multirun", "--dry-run", "--help"), word
        else:
            overrides.append(verbatim(word))
    for option, plugin in PLUGINS.items():
        if any(word.startswith(option) for word in overrides) and importlib.util.find_spec(plugin) is None:
            overrides = [word for word in overrides if not check_without_plugin(word, folder)]
    parsed = OverridesParser.create().parse_overrides(overrides)
    assert "--multirun" in arguments or not any(each.is_sweep_override() for each in parsed)
    choices = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [each.input_line]
        for each in parsed
    ]
    choices = [choice[:1] if choice[0].startswith("seed=") else choice for choice in choices]
    for combination in itertools.product(*choices):
        config = compose(module.removeprefix("spt."), list(combination))
        OmegaConf.to_container(config, resolve=True)
        recipes = [word for word in combination if word.startswith("recipe=") and word != "recipe=none"]
        assert not recipes or config.recipe is not None, recipes


def check_without_plugin(override: str, folder: Path) -> bool:
    """Whether an override is for a plugin that is not installed; its search space, if it names one, is checked here."""
    key, _, value = override.lstrip("+").partition("=")
    if key == "hparams_search":
        paths = [CONF / key / f"{value}.yaml", *folder.glob(f"**/conf/{key}/{value}.yaml")]
        (path,) = (path for path in paths if path.is_file())
        assert yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    return key in ("hparams_search", "hydra/launcher") or key.startswith(("hydra.sweeper.", "hydra.launcher."))


def test_the_readme_is_short():
    assert len((REPO / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page):
    for target, heading in LINK.findall(BLOCK.sub("", (REPO / page).read_text())):
        if not target.startswith(("http://", "https://")):
            path = (REPO / page).parent / target if target else REPO / page
            assert path.exists(), f"{page} links to {target}"
            assert not heading or heading in headings(path), f"{page} links to {target}#{heading}"


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_named_paths_exist(page):
    for match in PATH.finditer((REPO / page).read_text()):
        path = match[0].rstrip(".")
        assert any(REPO.glob(path.rstrip("/"))), f"{page} names {path}"


@pytest.mark.parametrize(("command", "page"), composed_commands())
def test_a_command_exists(command, page, tmp_path):
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
        settings = dict(word.split("=", 1) for word in words[2:])
        assert words[1] in targets and settings.keys() <= {"PROFILE", "ARGS"}
        assert (CONF / "profile" / f"{settings.get('PROFILE', 'smoke')}.yaml").is_file()
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
        assert words[2:-1] in ([], ["-e"])
        assert words[-1] in {".", *(f".[{extra}]" for extra in project["optional-dependencies"])}
    elif "-m" in words and words[words.index("-m") + 1].startswith("spt."):
        assert words[0] in ("python", "torchrun", "accelerate")
        module, *arguments = words[words.index("-m") + 1 :]
        write_files(page, tmp_path)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose_command(module, arguments, tmp_path)
    elif words == ["python", "-m", "spt"]:
        assert run("-m", "spt").returncode == 0
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((REPO / path).exists() for path in words[3:])
    elif words[:2] == ["python", "-m"] and words[2].startswith("scripts."):
        assert importlib.util.find_spec(words[2]) is not None
    else:
        assert command.startswith(OTHER_PROGRAMS), f"{page} has a command that is not checked: {command}"


def test_quickstart_composes(tmp_path):
    recipe = (REPO / "Makefile").read_text().partition("\nquickstart: setup\n")[2].partition("\n\n")[0]
    commands = [shlex.split(line) for line in recipe.replace("\\\n", " ").splitlines()]
    assert len(commands) == 2 and all(words[:2] == ["$(RUN)", "-m"] for words in commands)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for _, _, module, *arguments in commands:
            compose_command(module, arguments, tmp_path)


@pytest.mark.parametrize("block", parameters([each for each in BLOCKS if each.info == "demo"], slow=("docs/",)))
def test_a_demo_block_runs(block, workplace, trained):
    write_files(block.page, workplace)
    for command in block.commands:
        program, flag, module, *arguments = shlex.split(with_runs(command, trained))
        assert (program, flag) == ("python", "-m") and module.startswith("spt."), command
        run_command(module, arguments)


@pytest.mark.parametrize("block", parameters([each for each in BLOCKS if each.language == "python" and not each.file]))
def test_python_runs(block, workplace, trained):
    labels = {"labels": batch()["input_ids"][:, 0] % 2}
    exec(compile(with_runs(block.text, trained), block.page, "exec"), batch() | labels)


def test_the_results_are_those_of_the_tables():
    reported = [row for path in (REPO / "results/tables").glob("*.md") for row in rows(path)]
    for page, fewest in (("README.md", 5), ("docs/reproduce.md", 25)):
        shown = [
            (cells[0].replace("`", ""), score)
            for cells in rows(REPO / page)
            for score in SCORE.findall("|".join(cells))
        ]
        assert len(shown) >= fewest
        for name, score in shown:
            assert any(name in cells and score in "|".join(cells) for cells in reported), f"{page}: {name} {score}"


def test_the_readme_has_every_answer_of_the_report():
    report = (REPO / "results/README.md").read_text().partition("## What the runs answer")[2].partition("\n## ")[0]
    readme = " ".join((REPO / "README.md").read_text().split())
    questions = [" ".join(part.split()).split("**")[:2] for part in report.split("\n### ")[1:]]
    answered = [f"{question}{answer}" for question, answer in questions if not answer.startswith("Not answered yet")]
    assert len(questions) >= 5 and answered
    assert [answer for answer in answered if answer not in readme] == []


def rows(path: Path) -> list[list[str]]:
    """The rows of a page's tables."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("group", "page"), [("method", "training"), ("task", "training"), ("model", "encoders")])
def test_every_choice_is_named(group, page):
    words = re.findall(r"`([\w.-]+)`", (REPO / f"docs/{page}.md").read_text())
    assert {path.stem for path in (CONF / group).glob("*.yaml")} - {"demo"} <= set(words)


def test_the_licence_is_apache_2():
    text = (REPO / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == project["version"] == spt.__version__
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert citation["preferred-citation"]["doi"] == "10.18653/v1/2024.findings-acl.164"
