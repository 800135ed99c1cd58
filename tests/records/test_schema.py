"""Records: what is one, what is none, and those of earlier schemas."""

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


def test_an_earlier_record_is_brought_to_the_present_schema(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(EARLIER))
    record = read_record(path)
    assert record == EARLIER | {"schema": SCHEMA, "processes": 1, "resumed": 0, "numerics": 0}
    path.write_text(json.dumps(EARLIER | {"schema": 2, "resumed": 3, "packed": 1, "code": {"prefix": "0123"}}))
    assert read_record(path) == record | {"resumed": 3}


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


def test_the_committed_records_are_read():
    paths = sorted((REPO / "results" / "records").glob("*/record.json"))
    assert paths and all(read_record(path)["schema"] == SCHEMA for path in paths)
