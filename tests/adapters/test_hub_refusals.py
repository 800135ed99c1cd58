"""What the hub refuses is said with its cause, and models without safetensors come from a pull request."""

import pytest

import spt
from spt.paths import local_path
from tests.adapters.test_hub_endpoint import World, finish
from tests.conftest import tiny_encoder

pytestmark = pytest.mark.slow

# By the name of a repository: what the hub answers, and what the message says of the cause.
REFUSALS = {
    "gated": (401, {"X-Error-Code": "GatedRepo"}, "accept its licence on {}, then log in with `hf auth login`"),
    "asked": (403, {"X-Error-Code": "GatedRepo"}, "accept its licence on {}, then log in with `hf auth login`"),
    "private": (401, {"X-Error-Code": "RepoNotFound"}, "if it is private, log in with `hf auth login`"),
    "disabled": (403, {"X-Error-Message": "Access to this resource is disabled."}, "is disabled: {} may say why"),
    "token": (
        *(401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
        "log in with `hf auth login`, with a token that is still valid",
    ),
    "forbidden": (403, {}, "with one that may read, or write, {}"),
    "busy": (429, {}, "Too many requests: wait some minutes"),
    "broken": (500, {}, "The hub itself fails (HTTP 500): try again later"),
}
TRY = """
import sys
from spt.adapters.hub import fetch, push_adapter
from spt.errors import SptError
from spt.modeling.pretrained_encoder import load_backbone
from spt.tasks.hub_datasets import read_hub

for name in sys.argv[2:]:
    read = lambda name: read_hub({"path": name}, "train", True)
    actions = fetch, lambda name: push_adapter(sys.argv[1], name), load_backbone, read
    for action in actions[: 2 if name in ("busy", "broken") else 4]:  # the others try again, for half a minute
        try:
            action("org/" + name)
        except SptError as error:
            print(error)
"""


def test_every_refusal_says_its_cause(tmp_path):
    """Loading an adapter, pushing one, loading a model and data."""
    world = World(tmp_path)
    adapter = spt.save_adapter(spt.TaskModel(tiny_encoder(), "sentence", num_labels=2), tmp_path / "adapter")
    world.hub.refused = {f"org/{name}": answer[:2] for name, answer in REFUSALS.items()}
    with world.hub.serving():
        done = finish(world.start("-c", TRY, str(adapter), *REFUSALS, HF_TOKEN="hf_any"))
    assert done.code == 0, done.err
    lines = iter(done.out.splitlines())
    beginnings = {
        "'org/{}' is not a folder, and cannot be loaded from the hub": "give the folder of an adapter",
        "cannot push to 'org/{}'": "",
        "cannot load the model 'org/{}'": "Or set model.name_or_path to a folder with the model",
        "cannot load 'org/{}' from the hub": "Or set task.data_dir to a folder of files",
    }
    for name, (status, _, message) in REFUSALS.items():
        for beginning, instead in list(beginnings.items())[: 2 if name in ("busy", "broken") else 4]:
            line, kind = next(lines), "datasets/" if "from the hub" in beginning and "load '" in beginning else ""
            assert line.startswith(f"{beginning.format(name)} (") and instead in line, line
            assert message.format(f"{world.hub.url}/{kind}org/{name}") in line and f": HTTP {status} for http" in line
            assert name == "private" or "safetensors" not in line
    assert not list(lines)


LOAD = """
import sys
from spt.modeling.pretrained_encoder import commit_of, load_backbone
for argument in sys.argv[1:]:
    encoder, tokenizer = load_backbone(*argument.split("@"))
    print(encoder.num_parameters(), len(tokenizer), commit_of(*argument.split("@")))
"""


def test_weights_of_the_conversion_bots_pull_request(tmp_path):
    """Where main has no safetensors, all files come from the pull request, whose commit is the model's."""
    world, encoder = World(tmp_path), local_path("pkg://spt/demo/encoder")
    files = {path.name: path.read_bytes() for path in encoder.iterdir()}
    weights = files.pop("model.safetensors")
    repository = world.hub.create("models", "org/old")
    repository.branches["refs/pr/4"] = repository.commit(files | {"pytorch_model.bin": b"any"})
    converted = repository.commit({"model.safetensors": weights}, "refs/pr/4")
    world.hub.moved = {"org/former": "org/old"}
    pinned = [f"org/old@{revision}" for revision in (converted, "refs/pr/4")]
    with world.hub.serving():
        online = finish(world.start("-c", LOAD, "org/old@main", *pinned, "org/former@main"))
    offline = finish(world.start("-c", LOAD, *pinned, HF_HUB_OFFLINE="1"))
    assert online.code == 0 and offline.code == 0, online.err + offline.err
    assert "org/old has no safetensors on main: those of refs/pr/4 are loaded" in online.err
    assert f"model.revision={converted} pins them" in online.err and offline.err == ""
    loaded, *others = [*online.out.splitlines(), *offline.out.splitlines()]
    assert loaded.endswith(converted) and others == [loaded] * 5
