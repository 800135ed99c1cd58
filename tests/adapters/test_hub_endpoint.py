"""Real commands against a hub: data and models come from it, from the cache without it, or the run says why not."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from spt.errors import SptError
from spt.paths import local_path
from spt.tasks.hub_datasets import read_hub
from tests.conftest import REPO
from tests.hub import Hub
from tests.test_configs import composed

pytestmark = pytest.mark.soak
OTHER = "0" * 40
TEXT, INDEX = Value("string"), Value("int32")
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
SPAN = {"start": Value("int64"), "end": Value("int64"), "type": TEXT}

# For each task: its splits' files in the hub's own layout, whether the README tells configs, features and examples.
LAYOUTS = {
    "rte": (
        "rte/{}-00000-of-00001.parquet",
        "rte",
        {
            "premise": TEXT,
            "hypothesis": TEXT,
            "idx": INDEX,
            "label": ClassLabel(names=["entailment", "not_entailment"]),
        },
        [{"premise": f"{i} wugs", "hypothesis": "a wug", "idx": i, "label": i % 2} for i in range(6)],
    ),
    "conll03": (
        "conll2003/{}/0000.parquet",
        None,
        {"id": TEXT, "tokens": List(TEXT), "ner_tags": List(ClassLabel(names=TAGS))},
        [{"id": str(i), "tokens": ["Ann", "Lee", "in", "Rome"], "ner_tags": [1, 2, 0, 5]} for i in range(6)],
    ),
    "conll04": (
        "data/{}-00000-of-00001.parquet",
        "default",
        {"entities": List(SPAN), "tokens": List(TEXT), "orig_id": Value("int64")},
        [
            {"entities": [{"start": 0, "end": 2, "type": "Peop"}], "tokens": ["Ann", "Lee", "sat"], "orig_id": i}
            for i in range(6)
        ],
    ),
    "wnut17": (
        "wnut_17/{}/0000.parquet",
        None,
        {"id": TEXT, "tokens": List(TEXT), "ner_tags": List(ClassLabel(names=["O", "B-person", "I-person"]))},
        [{"id": str(i), "tokens": ["Ann", "Lee", "sat"], "ner_tags": [1, 2, 0]} for i in range(6)],
    ),
    "sst2": (
        "sst2/{}-00000-of-00001.parquet",
        "sst2",
        {"sentence": TEXT, "label": ClassLabel(names=["negative", "positive"]), "idx": INDEX},
        [{"sentence": f"{i} wugs", "idx": i, "label": i % 2} for i in range(6)],
    ),
    "stsb": (
        "stsb/{}-00000-of-00001.parquet",
        "stsb",
        {"sentence1": TEXT, "sentence2": TEXT, "label": Value("float32"), "idx": INDEX},
        [{"sentence1": f"{i} wugs", "sentence2": "a wug", "idx": i, "label": i / 2} for i in range(6)],
    ),
    "mnli": (
        "mnli/{}-00000-of-00001.parquet",
        "mnli",
        {
            "premise": TEXT,
            "hypothesis": TEXT,
            "label": ClassLabel(names=["entailment", "neutral", "contradiction"]),
            "idx": INDEX,
        },
        [{"premise": f"{i} wugs", "hypothesis": "a wug", "idx": i, "label": i % 3} for i in range(6)],
    ),
    "multirc": (
        "multirc/{}-00000-of-00001.parquet",
        "multirc",
        {
            "paragraph": TEXT,
            "question": TEXT,
            "answer": TEXT,
            "idx": {"paragraph": INDEX, "question": INDEX, "answer": INDEX},
            "label": ClassLabel(names=["False", "True"]),
        },
        [
            {
                "paragraph": "Ann sat.",
                "question": "Who sat?",
                "answer": f"{i} wugs",
                "idx": {"paragraph": 0, "question": i // 2, "answer": i},
                "label": i % 2,
            }
            for i in range(6)
        ],
    ),
    "record": (
        "record/{}-00000-of-00001.parquet",
        "record",
        {
            "passage": TEXT,
            "query": TEXT,
            "entities": List(TEXT),
            "entity_spans": List({"text": TEXT, "start": INDEX, "end": INDEX}),
            "answers": List(TEXT),
            "idx": {"passage": INDEX, "query": INDEX},
        },
        [
            {
                "passage": "Ann met Bea.",
                "query": f"@placeholder has {i} wugs",
                "entities": ["Ann", "Bea"],
                "entity_spans": [],
                "answers": ["Bea"],
                "idx": {"passage": 0, "query": i},
            }
            for i in range(6)
        ],
    ),
}
SPLIT_NAMES = {"mnli": ("train", "validation_matched", "validation_mismatched", "test_matched")}
SPLITS = ("train", "validation", "test")


def data_set(folder: Path, layout: tuple, splits: tuple[str, ...] = SPLITS) -> Path:
    """One more of a repository's data sets: its parquet files, and the README that maps them to splits."""
    pattern, config, features, rows = layout
    for split in splits:
        path = folder / pattern.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = {"label": -1} if "label" in features else {"answers": []} if "answers" in features else {}
        shown = [row | hidden for row in rows] if split.startswith("test") else rows
        Dataset.from_list(shown, features=Features(features)).to_parquet(path)
    if config is not None:
        files = "".join(
            f"  - split: {split}\n    path: {pattern.format(split).replace('-00000-of-00001.parquet', '-*')}\n"
            for split in splits
        )
        readme = folder / "README.md"
        configs = readme.read_text().removesuffix("---\n") if readme.exists() else "---\nconfigs:\n"
        readme.write_text(f"{configs}- config_name: {config}\n  data_files:\n{files}---\n")
    return folder


class World:
    """A hub, a cache that it is loaded into, and commands in between."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hub = folder, Hub(folder / "hub")
        self.home = folder / "home"

    def start(self, *command: str, home: Path | None = None, **environment: str) -> subprocess.Popen:
        kept = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
        kept |= {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(home or self.home), "HF_HUB_DISABLE_XET": "1"}
        return subprocess.Popen(
            [sys.executable, *command], cwd=REPO, env=kept | environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def train(self, *overrides: str, runs: str = "runs", **kwargs) -> subprocess.Popen:
        return self.start(
            "-m", "spt.train", "model=demo", "trainer.max_steps=1", "task.max_length=64", *overrides,
            f"output_dir={self.folder / runs}", **kwargs,
        )  # fmt: skip

    def records(self, runs: str) -> dict[str, dict]:
        found = [json.loads(path.read_text()) for path in (self.folder / runs).glob("*/record.json")]
        return {record["task"]: record for record in found}


def finish(process: subprocess.Popen) -> SimpleNamespace:
    out, err = process.communicate(timeout=120)
    return SimpleNamespace(code=process.returncode, out=out, err=err)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Runs of the tasks against the hub, and the same out of the cache after the hub has gone."""
    folder = tmp_path_factory.mktemp("endpoint")
    world = World(folder)
    sources = {name: composed(f"task={name}").task.hub for name in LAYOUTS}
    for name, source in sources.items():
        data_set(folder / source.path, LAYOUTS[name], SPLIT_NAMES.get(name, SPLITS))
    for source in sources.values():
        world.hub.push("datasets", source.path, folder / source.path, source.revision)
    world.sources = sources
    world.sha = world.hub.push("models", "org/tiny", local_path("pkg://spt/demo/encoder"))
    model = ("model.name_or_path=org/tiny", f"model.revision={world.sha}")
    command = ("--multirun", f"task={','.join(LAYOUTS)}", "method=spt", *model)
    with world.hub.serving():
        world.online = finish(world.train(*command))
        world.asked = list(world.hub.requests)
    world.gone = time.perf_counter()
    world.unreachable = world.train("task=rte", *model, home=folder / "unreachable", runs="unreachable")
    world.offline = finish(world.train(*command, "force=true", runs="offline", HF_HUB_OFFLINE="1"))
    yield world
    world.unreachable.kill()


def test_data_and_model_come_from_the_hub(world):
    assert world.online.code == 0, world.online.err
    records = world.records("runs")
    assert records.keys() == LAYOUTS.keys()
    for name, record in records.items():
        assert record["model_revision"] == world.sha
        repository, revision = world.hub.find("datasets", world.sources[name].path), world.sources[name].revision
        assert record["data"]["revision"] == repository.resolve(revision)
        assert record["steps"] == 1
        labelled = set(SPLITS if "tokens" in LAYOUTS[name][2] else SPLITS[:2])
        assert record["data"]["splits"].keys() == labelled | ({"validation_mismatched"} if name == "mnli" else set())
        assert all(split["examples"] == 6 for split in record["data"]["splits"].values())


@pytest.mark.soak
def test_no_other_revision_is_asked_for(world):
    pinned = {"org/tiny": {world.sha}}
    for source in world.sources.values():
        repository = world.hub.find("datasets", source.path)
        pinned[source.path] = {source.revision, repository.resolve(source.revision)}
    asked = {}
    for request in world.asked:
        if found := re.search(
            r"^\w+ /(?:api/)?(?:datasets/|models/)?([^/]+/[^/]+)/(?:resolve|revision|tree)/(.*)", request
        ):
            revisions = pinned[found[1]]
            match = [revision for revision in revisions if found[2].startswith(revision)]
            assert match, request
            asked.setdefault(found[1], set()).update(match)
    assert asked.keys() == pinned.keys()


def test_the_same_without_the_hub(world):
    assert world.offline.code == 0, world.offline.err
    online, offline = world.records("runs"), world.records("offline")
    assert offline.keys() == online.keys()
    for name, record in offline.items():
        for key in ("data", "model_revision", "scores"):
            assert record[key] == online[name][key], (name, key)


@pytest.mark.soak
def test_the_cache_does_not_pass_for_another_revision(world, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", world.home / "datasets")
    source = world.sources["rte"]
    there = world.hub.find("datasets", source.path).resolve(source.revision)
    assert len(list(read_hub({"path": source.path, "name": source.name, "revision": there}, "train", True))) == 6
    with pytest.raises(SptError, match=f"latest cached copy of '{source.path}' is of revision {there}, not {OTHER}"):
        read_hub({"path": source.path, "name": source.name, "revision": OTHER}, "train", True)


def test_neither_hub_nor_cache(world):
    start = time.perf_counter()
    command = ("--multirun", "task=rte,demo_pair", "method=spt", "model.name_or_path=org/tiny")
    done = finish(world.train(*command, home=world.folder / "empty", HF_HUB_OFFLINE="1"))
    assert time.perf_counter() - start < 30
    data, model, *_ = errors(done)
    assert data.startswith("cannot load 'aps/super_glue' from the hub") and "task.data_dir" in data
    assert "HF_HUB_OFFLINE is set" in data and "HF_HUB_OFFLINE is set" in model
    assert model.startswith("cannot load the model 'org/tiny'") and "model.name_or_path to a folder" in model


def test_what_the_hub_does_not_have(world):
    """Each mistake in a config is named, with its remedy; the order of the errors is that of the runs."""
    rte = world.sources["rte"]
    columns = (*LAYOUTS["rte"][:2], {"text": TEXT, "label": INDEX}, [{"text": "P", "label": 0}])
    train_only = data_set(world.folder / "train_only", LAYOUTS["rte"], ("train",))
    world.hub.push("datasets", "org/train_only", train_only)
    world.hub.push("datasets", "org/columns", data_set(world.folder / "columns", columns))
    pickled = world.folder / "pickled"
    pickled.mkdir()
    for path in local_path("pkg://spt/demo/encoder").glob("*.json"):
        (pickled / path.name).write_bytes(path.read_bytes())
    torch.save({}, pickled / "pytorch_model.bin")
    world.hub.push("models", "org/pickled", pickled)

    hubs = [
        {"path": rte.path, "name": "rte", "revision": OTHER},
        {"path": rte.path, "name": "rt", "revision": rte.revision},
        {"path": "org/nowhere", "name": "rte", "revision": "main"},
        {"path": "org/train_only", "name": "rte", "revision": "main"},
        {"path": "org/columns", "name": "rte", "revision": "main"},
    ]
    sweep = ",".join("{" + ",".join(f"{key}:'{value}'" for key, value in hub.items()) + "}" for hub in hubs)
    with world.hub.serving():
        first = world.train("--multirun", "task=rte", f"task.hub={sweep}", home=world.folder / "mistakes")
        second = world.train(
            "--multirun", "task=demo_pair", "model.name_or_path=org/tiny,org/nowhere,org/pickled",
            f"model.revision={OTHER},main", home=world.folder / "mistakes",
        )  # fmt: skip
        data, model = errors(finish(first)), errors(finish(second))
    revision, config, repository, split, column, _ = data
    assert OTHER in revision and rte.path in revision and "Check task.hub (path, name, revision)" in revision
    assert "'rt' not found" in config and "rte" in config
    assert "'org/nowhere'" in repository and "The hub shows no " in repository
    assert "'org/train_only' on the hub has no split 'validation'" in split and "train" in split
    assert "org/columns train, example 0: no field 'premise'" in column and "text" in column
    assert world.records("runs")["demo_pair"]["model_revision"] == world.sha  # of the branch main
    revision, nowhere, _, _, pickle, _ = model
    assert "'org/tiny'" in revision and OTHER in revision and "Check model.name_or_path and model.revision" in revision
    assert "'org/nowhere'" in nowhere and f"shows no {world.hub.url}/org/nowhere" in nowhere
    assert "'org/pickled'" in pickle and "there must be a model.safetensors" in pickle


def errors(done: SimpleNamespace) -> list[str]:
    """The messages of a command that failed: one a run, no traceback."""
    assert done.code == 1 and "Traceback" not in done.err, done.err
    return [line.removeprefix("error: ") for line in done.err.splitlines() if line.startswith("error: ")]


PUSH_AND_PULL = """
import sys
from huggingface_hub import HfApi, snapshot_download
api = HfApi(token="hf_any")
api.create_repo("me/adapter")
commit = api.upload_folder(repo_id="me/adapter", folder_path=sys.argv[1])
print(commit.oid, snapshot_download("me/adapter"), sep="\\n")
"""


@pytest.mark.soak
def test_a_pushed_folder_comes_back(tmp_path):
    world, folder = World(tmp_path), tmp_path / "adapter"
    (folder / "more").mkdir(parents=True)
    contents = {"adapter.safetensors": os.urandom(10_000), "README.md": b"---\nlicense: mit\n---\n", "more/empty": b""}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with world.hub.serving():
        done = finish(world.start("-c", PUSH_AND_PULL, str(folder)))
    assert done.code == 0, done.err
    sha, downloaded = done.out.splitlines()
    assert Path(downloaded).name == sha == world.hub.find("models", "me/adapter").resolve("main")
    back = {name: (Path(downloaded) / name).read_bytes() for name in contents}
    assert back == contents


def test_a_hub_out_of_reach(world):
    """Last, for the run began with the fixture and spends its time on huggingface_hub's retries."""
    done = finish(world.unreachable)
    assert time.perf_counter() - world.gone < 100
    (said,) = errors(done)
    assert said.startswith("cannot load 'aps/super_glue' from the hub (ConnectionError: Couldn't reach")
    assert "cannot be reached: check the network" in said
    assert "HF_HUB_OFFLINE=1 uses the cached copy" in said
