"""Paths and texts reach a config as they are typed, and are recorded so."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from spt.errors import SptError
from spt.hydra_targets import instantiate
from spt.path_overrides import INPUTS, OUTPUTS, assignment, plain, verbatim
from spt.paths import CONF

ODD = [
    "données (1)/d=1.jsonl", "数据.jsonl", "a,b.jsonl", "it's \"q\".jsonl", "[x].jsonl", "[x,y]", "{a: b}.jsonl",
    "$HOME.jsonl", "${x}.jsonl", r"\${x}.jsonl", r"back\slash", "ends\\", " spaces ", "a#b%*!?:|&;<>", "null", "1e5",
    ".5", "true", "'quoted'", "~x", "two\nlines", "choice(a,b)",
]  # fmt: skip


def read(*overrides: str) -> OmegaConf:
    """The values that Hydra reads of overrides, by their keys."""
    config = OmegaConf.create()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        OmegaConf.update(config, override.key_or_group, override.value())
    return config


@settings(max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30))
def test_any_text_passes_the_command_line_unchanged(text):
    assert read(verbatim(f"text={text}")).text == text
    assert read(assignment("text", text)).text == text
    assert verbatim(f"other={text}") == f"other={text}"


@pytest.mark.parametrize("name", ODD)
def test_a_path_that_exists_is_taken_as_it_is_and_recorded_so(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir(parents=True)
    for key in ("task.train", "+data_dir", "run", "output_dir"):
        for is_sweep in (False, True):
            override = verbatim(f"{key}={name}", is_sweep)
            (parsed,) = OverridesParser.create().parse_overrides([override])
            assert OmegaConf.create([parsed.value()])[0] == name and not parsed.is_sweep_override()
            assert plain(override) == f"{key}={name}"
            # As Hydra writes it for the job of a sweep.
            assert plain(f"{key}={parsed.get_value_element_as_str()}") == f"{key}={name}"


@pytest.mark.parametrize("key", sorted(INPUTS | OUTPUTS))
def test_a_path_that_does_not_exist_reaches_the_message_about_it(key):
    for name in ("données (1)/d=1.jsonl", "a (1).jsonl", "[x].jsonl", "it's"):
        assert OmegaConf.select(read(verbatim(f"{key}={name}")), key) == name
        if "," not in name:
            assert OmegaConf.select(read(verbatim(f"{key}={name}", is_sweep=True)), key) == name


@pytest.mark.parametrize("value", ["null", "", "'a b'", '"a b"', r"a\ b", "${oc.env:HOME}/x", "a.jsonl", "[a,b]"])
def test_what_is_meant_for_hydra_is_left_to_it(value):
    assert verbatim(f"task.train={value}") == f"task.train={value}"
    assert plain(f"task.train={value}") == f"task.train={value}"


@pytest.mark.parametrize("value", ["3", "2024_05_01", "1e5", "true", "nan"])
def test_a_path_that_reads_as_a_number_is_a_path(value):
    for key in ("task.train", "output_dir"):
        assert OmegaConf.select(read(verbatim(f"{key}={value}")), key) == value
        assert plain(verbatim(f"{key}={value}")) == f"{key}={value}"


def test_a_sweep_over_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a (1)", "b=2", "a,b"):
        Path(name).touch()
    assert verbatim("task.train=a,b.jsonl", is_sweep=True) == "task.train=a,b.jsonl"
    assert verbatim("text") == "text" and verbatim("runs") == "runs"  # folders after an option
    assert verbatim("task.train=a (1),b=2", is_sweep=True) == "task.train='a (1)','b=2'"
    assert verbatim("run=[a (1),b=2]") == "run=['a (1)','b=2']"
    assert verbatim("task.train=a (1),c", is_sweep=True) == "task.train=a (1),c"  # Hydra's message says how to quote
    assert verbatim("task.train=a,b", is_sweep=True) == "task.train='a,b'"
    assert verbatim("output=c,d") == "output='c,d'"


def test_results_go_to_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verbatim("output_dir=~/runs") == f"output_dir={tmp_path}/runs"
    assert read(verbatim("task.train=~/a.jsonl")).task.train == "~/a.jsonl"  # read with the reader's home


@pytest.mark.parametrize("argument", ["text=a\udcff", "task.train=\udcff.jsonl", "\udcff"])
def test_bytes_that_are_not_utf8_are_refused(argument):
    with pytest.raises(SptError, match="is not UTF-8 .where the locale"):
        verbatim(argument)


def test_python_values_are_overrides():
    values = {
        "method.prefix_length": 5, "trainer.learning_rate": 1e-5, "task.labels": ["yes", "no: (x)"],
        "task.max_length": None, "trainer.bf16": True, "task.data_dir": Path("a (1)"),
        "model.config": {"a": 1.5, "b": {"c": "x, y"}}, "seed": 12, "task.held_out": float("inf"),
        "trainer.max_steps": np.int64(3), "trainer.fp16": np.bool_(False), "trainer.weight_decay": np.float32(0.5),
    }  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [assignment(key if key != "model.config" else f"+{key}", value) for key, value in values.items()]
        config = compose("train", ["task=demo_pair", "model=demo", *overrides])
    for key, value in values.items():
        assert OmegaConf.select(config, key) == (str(value) if isinstance(value, Path) else value)
    with pytest.raises(SptError, match="is no value of a setting"):
        assignment("seed", object())


def test_a_dollar_in_a_path_reaches_the_task():
    task = OmegaConf.create({"_target_": "builtins.dict", "train": r"\${x}.jsonl", "files": {"a": [r"\${y}"]}})
    assert instantiate(task, _convert_="all") == {"train": "${x}.jsonl", "files": {"a": ["${y}"]}}


def test_all_paths_of_the_configs_are_known():
    """The settings whose comments in conf speak of a file or a folder."""
    named = {
        line.partition(":")[0]
        for path in CONF.glob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if ("a file" in line or "a folder" in line or "the folder" in line) and line[0].isalpha() and ": " in line
    }
    assert named <= INPUTS | OUTPUTS | {"task", "model"}  # groups
