"""Records: what they keep of the code they came of, and those of earlier schemas."""

import json
import subprocess

import pytest

from scripts import migrate_records
from spt import code
from spt.code import DEFINING, changed_since, digest, digests
from spt.errors import SptError
from spt.record import SCHEMA, read_record
from tests.conftest import REPO, run

SOURCE = '''"""A module."""

import math  # for pi


def area(radius: float) -> float:
    """Of a circle."""
    return math.pi * radius**2  # not 3.14
'''


def test_what_is_said_of_code_is_no_part_of_it():
    assert digest(SOURCE) == digest(SOURCE.replace("A module", "Said\notherwise").replace("# not 3.14", ""))
    assert digest(SOURCE) == digest(SOURCE.replace('    """Of a circle."""\n', "\n").replace("  # for pi", " # for it"))
    assert digest(SOURCE) != digest(SOURCE.replace("radius**2", "radius**3"))
    assert digest("a = '# no comment'\n") != digest("a = '# a text'\n")


def test_every_module_that_defines_a_result_is_there():
    assert list(digests()) == list(DEFINING)
    assert changed_since({"code": digests()}) == []
    assert changed_since({"code": digests() | {"prefix": "x", "gone": "y"}}) == ["gone", "prefix"]
    assert changed_since({"code": None}) == sorted(DEFINING)


EARLIER = {
    "schema": 1, "task": "rte", "model": "bert", "method": "spt", "seed": 11, "fingerprint": "0",
    "config": {"task": {}, "model": {}, "method": {}, "trainer": {}},
    "git": {"commit": None, "dirty": None}, "hardware": {}, "versions": {}, "wall_seconds": 1.5, "command": "python",
    "status": "finished", "metric": "accuracy", "metrics": {"best_dev": 0.5, "last_dev": None}, "best_epoch": 1,
    "scores": {}, "data": {}, "trainable_by_group": {},
    "epochs": 1, "steps": 2, "trainable_parameters": 3, "peak_memory_bytes": 4, "collapsed": False, "warnings": [],
}  # fmt: skip


def test_an_earlier_record_is_brought_to_the_present_schema(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(EARLIER))
    record = read_record(path)
    assert record == EARLIER | {"schema": SCHEMA, "packed": 1, "processes": 1, "resumed": 0, "code": None}
    path.write_text(json.dumps(EARLIER | {"resumed": 3}))
    assert read_record(path)["resumed"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(EARLIER | {"schema": SCHEMA + 1}), f"it says {SCHEMA + 1}.: it is damaged, or of a later version"),
        (json.dumps(EARLIER | {"schema": "1"}), "it says '1'"),
        (json.dumps({"schema": 1, "task": "rte"}), "is a record without a proper model, method, fingerprint"),
        (json.dumps(EARLIER | {"metrics": {"best_dev": "0.5", "last_dev": None}}), "without a proper metrics"),
        (json.dumps(EARLIER | {"metrics": {"last_dev": 0.5}}), "without a proper metrics"),
        (json.dumps(EARLIER | {"status": "[bold]done"}), "without a proper status"),
        (json.dumps(EARLIER | {"status": "diverged"}), "without a proper warnings"),
        (json.dumps(EARLIER | {"wall_seconds": float("nan"), "seed": True}), "without a proper seed, wall_seconds"),
        (json.dumps(EARLIER | {"epochs": -1}), "without a proper epochs"),
        (json.dumps(EARLIER | {"processes": "2"}), "without a proper processes"),
        (json.dumps(EARLIER | {"git": {}}), "without a proper git"),
        ("[]", "it says None"),
        ("{", "no readable record"),
        (b"\xff\xfe", "no readable record"),
    ],
)
def test_what_is_no_record_is_told(content, message, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SptError, match=message) as error:
        read_record(path)
    assert str(path) in str(error.value) and "the run can be repeated" in str(error.value)


def test_records_are_migrated_with_the_code_of_their_commit(tmp_path):
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True).stdout.strip()
    if not commit:
        pytest.skip("no repository")
    for name, git in (("known", commit), ("unknown", "0" * 40)):
        (tmp_path / name).mkdir()
        record = EARLIER | {"git": {"commit": git, "dirty": False}}
        (tmp_path / name / "record.json").write_text(json.dumps(record))
    done = run("-m", "scripts.migrate_records", str(tmp_path))
    assert done.returncode == 0 and "2 records of" in done.stdout, done.stderr
    known, unknown = (read_record(tmp_path / name / "record.json") for name in ("known", "unknown"))
    assert known["code"] == migrate_records.digests_at(commit) and set(known["code"]) <= set(DEFINING)
    assert unknown["code"] is None
    assert "0 records of" in run("-m", "scripts.migrate_records", str(tmp_path)).stdout


def test_the_committed_records_have_the_present_schema():
    for path in (REPO / "results" / "records").glob("*/record.json"):
        record = json.loads(path.read_text())
        assert record["schema"] == SCHEMA and record["code"], path


def test_code_is_digested_once(monkeypatch):
    code.running.cache_clear()
    calls = []
    monkeypatch.setattr(code, "digests", lambda: calls.append(1) or {})
    changed_since({"code": {}}), changed_since({"code": {}})
    code.running.cache_clear()
    assert len(calls) == 1
