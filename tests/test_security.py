"""No unpickling, no code from files, no network access without need, no secrets in files or messages."""

import ast
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import DEMO, REPO, run

SOURCES = sorted([*(REPO / "spt").rglob("*.py"), *(REPO / "scripts").glob("*.py")])
FORBIDDEN = {"eval", "exec", "compile", "__import__", "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
NO_SOCKETS = """
import socket
def refuse(*args, **kwargs):
    with open({log!r}, "a") as file:
        file.write(repr(args) + "\\n")
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
"""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_unpickles_or_evaluates(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not FORBIDDEN & {part for name in names for part in name.split(".")}, ast.unparse(node)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in FORBIDDEN and called not in ("torch.load", "torch.save", "yaml.load", "os.system")
            for word in node.keywords:
                value = ast.unparse(word.value)
                assert (word.arg, value) not in (("trust_remote_code", "True"), ("shell", "True")), ast.unparse(node)


@pytest.mark.slow
def test_all_commands_without_network_and_without_secrets(tmp_path):
    """The commands on the demo open no connection, and write no key to a file or the terminal."""
    (tmp_path / "site").mkdir()
    log, runs = tmp_path / "calls", tmp_path / "runs"
    (tmp_path / "site" / "sitecustomize.py").write_text(NO_SOCKETS.format(log=str(log)))
    secrets = {"WANDB_API_KEY": "key-of-wandb-0123456789", "HF_TOKEN": "hf_token0123456789", "AWS_SECRET": "aws01234"}
    env = {**os.environ, **secrets, "PYTHONPATH": str(tmp_path / "site")}
    env = {name: value for name, value in env.items() if name != "HF_HUB_OFFLINE"}
    output = ""

    def call(*command: str) -> None:
        nonlocal output
        done = run("-m", *command, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        output += done.stdout + done.stderr

    call("spt.train", *DEMO, "task=demo_pair", f"output_dir={runs}")
    (record,) = runs.glob("*/record.json")
    call("spt.evaluate", f"run={record.parent}")
    call(
        "spt.predict",
        f"run={record.parent}",
        "text=the apple",
        "text_pair=the child",
        f"output={runs}/predictions.jsonl",
    )
    call("spt.runs", f"output_dir={runs}")
    assert not log.exists(), log.read_text()
    texts = [output, *(path.read_bytes().decode(errors="replace") for path in runs.rglob("*") if path.is_file())]
    assert len(texts) > 8
    for name, secret in secrets.items():
        assert not any(secret in text for text in texts), name


@pytest.mark.slow
def test_a_record_s_target_is_not_called(tmp_path):
    """A record is read without a call of the `_target_` in its config."""
    grid = (
        *("-m", "spt.reproduce", "table=ner", "+tables.ner.profiles.smoke.rows=[linear_probe]", "--dry-run"),
        f"output_dir={tmp_path}",
        "profiles.smoke.set=['trainer.num_train_epochs=1','trainer.per_device_train_batch_size=64']",
    )
    done = run(*(word for word in grid if word != "--dry-run"))
    assert done.returncode == 0, done.stderr
    (path, *_) = sorted(tmp_path.glob("*/record.json"))
    record = json.loads(path.read_text())
    record["config"]["task"]["hub"] = {"_target_": "pathlib.Path.touch", "self": f"{tmp_path}/touched"}
    path.write_text(json.dumps(record))
    shutil.rmtree(tmp_path / "smoke")
    done = run(*grid)
    assert done.returncode == 0 and "nothing to run" in done.stdout, done.stderr
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a/b", "..", "", "a\nb"])
def test_no_name_leads_out_of_the_output_folder(name, train, tmp_path):
    code, _, err = train(*DEMO, "task=demo_pair", f"++task.name={json.dumps(name)}")
    assert code == 1 and "task.name is part of a folder's name" in err and not list(tmp_path.iterdir())


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_read(train, tmp_path):
    import pickle

    class Mischief:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    settings = (*DEMO, "task=demo_pair")
    assert train(*settings)[0] == 0
    (record,) = (tmp_path / "runs").glob("*/record.json")
    record.unlink()
    (record.parent / "checkpoint.safetensors").write_bytes(pickle.dumps(Mischief()))
    code, out, err = train(*settings)
    assert code == 0 and "is damaged" in out and "the run starts anew" in out, err
    assert not (tmp_path / "touched").exists()
