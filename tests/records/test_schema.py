"""The schema of records: earlier ones are migrated, invalid ones refused by name."""

import json

import pytest

from spt.errors import SptError
from spt.records.schema import SCHEMA, read_record
from tests.conftest import REPO

EARLIER = {
    "schema": 1, "task": "rte", "model": "bert", "method": "spt", "seed": 11, "fingerprint": "0",
    "config": {"task": {}, "model": {}, "method": {}, "trainer": {}},
    "git": {"commit": None, "dirty": None}, "hardware": {}, "versions": {}, "wall_seconds": 1.5, "command": "python",
    "status": "finished", "metric": "accuracy", "metrics": {"best_dev": 0.5, "last_dev": None}, "best_epoch": 1,
    "scores": {}, "data": {}, "trainable_by_group": {},
    "epochs": 1, "steps": 2, "trainable_parameters": 3, "peak_memory_bytes": 4, "collapsed": False, "warnings": [],
}  # fmt: skip


def test_earlier_schemas_are_migrated(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(EARLIER))
    record = read_record(path)
    assert record == EARLIER | {"schema": SCHEMA, "processes": 1, "resumed": 0, "numerics": 0}
    path.write_text(json.dumps(EARLIER | {"schema": 2, "resumed": 3, "packed": 1, "code": {"prefix": "0123"}}))
    assert read_record(path) == record | {"resumed": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            json.dumps(EARLIER | {"schema": SCHEMA + 1}),
            "schema: Input should be 3; .*it is damaged or of another version of spt",
        ),
        (json.dumps(EARLIER | {"schema": "1"}), "schema: Input should be 3"),
        (
            json.dumps({"schema": 1, "task": "rte"}),
            "is not a valid record .model: Field required; method: Field required; .*; and [0-9]+ more.",
        ),
        (json.dumps(EARLIER | {"metrics": {"best_dev": "0.5", "last_dev": None}}), "metrics.best_dev: Input should be"),
        (json.dumps(EARLIER | {"metrics": {"last_dev": 0.5}}), "metrics.best_dev: Field required"),
        (json.dumps(EARLIER | {"status": "[bold]done"}), "status: Input should be 'finished' or 'diverged'"),
        (json.dumps(EARLIER | {"status": "diverged"}), "warnings must say why a run diverged"),
        (
            json.dumps(EARLIER | {"wall_seconds": float("nan"), "seed": True}),
            "seed: Input .* integer; wall_seconds: Input .* finite",
        ),
        (json.dumps(EARLIER | {"epochs": -1}), "epochs: Input should be greater than or equal to 0"),
        (json.dumps(EARLIER | {"processes": "2"}), "processes: Input should be a valid integer"),
        (json.dumps(EARLIER | {"git": {}}), "git.commit: Field required; git.dirty: Field required"),
        (json.dumps(EARLIER | {"metrics": {"best_dev": 0.5, "last_dev": 0.5, "test": "1"}}), "metrics.test: Input"),
        (json.dumps(EARLIER | {"config": {"task": {}, "model": {}, "method": {}}}), "config.trainer: Field required"),
        ("[]", "Input should be a valid dictionary"),
        ("{", "is not a valid record .Expecting"),
        (b"\xff\xfe", "is not a valid record .*utf-8"),
    ],
)
def test_an_invalid_record_is_refused(content, message, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SptError, match=message) as error:
        read_record(path)
    assert str(path) in str(error.value) and "repeat the run" in str(error.value) and "\n" not in str(error.value)


def test_the_committed_records_are_valid():
    paths = sorted((REPO / "results" / "records").glob("*/record.json"))
    assert paths and all(read_record(path)["schema"] == SCHEMA for path in paths)


def test_a_failed_run_has_its_own_schema_and_unknown_keys_are_kept(tmp_path):
    path = tmp_path / "failure.json"
    path.write_text(json.dumps(EARLIER | {"error": "out of memory", "selection": {"seeds": 5}}))
    record = read_record(path)
    assert record["error"] == "out of memory" and record["selection"] == {"seeds": 5}
    path.write_text(json.dumps(EARLIER))
    with pytest.raises(SptError, match="error: Field required"):
        read_record(path)
