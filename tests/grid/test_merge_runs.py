"""`python -m spt.runs merge=<folder>`: finished runs of others are taken over, and none is overwritten."""

import shutil

import pytest

from tests.conftest import REPO

BEFORE = REPO / "tests/fixtures/before/runs"


@pytest.fixture
def merge(called, tmp_path):
    return lambda source=BEFORE: called("spt.runs", f"merge={source}", f"output_dir={tmp_path}/runs")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finished_runs_are_copied_once_with_all_files(merge, tmp_path):
    code, out, err = merge()  # one of the four is not finished
    assert code == 0 and "3 runs copied" in out and "0 were there" in out, err
    finished = {path: text for path, text in contents(BEFORE).items() if not path.parts[0].startswith("demo_pair")}
    assert contents(tmp_path / "runs") == finished
    code, out, _ = merge()
    assert code == 0 and "0 runs copied" in out and "3 were there" in out


def test_another_result_is_not_overwritten(merge, tmp_path):
    first, *_ = sorted(path.name for path in BEFORE.iterdir())
    shutil.copytree(BEFORE / first, tmp_path / "runs" / first)
    record = tmp_path / "runs" / first / "record.json"
    record.write_text(record.read_text().replace('"wall_seconds"', '"wall_seconds" '))
    kept = contents(tmp_path / "runs")
    code, _, err = merge()
    assert code == 1 and f"other results of {first}" in err and "nothing was copied" in err
    assert contents(tmp_path / "runs") == kept
    record.unlink()  # an unfinished run
    code, _, err = merge()
    assert code == 1 and f"{first} is a run without a record" in err and not record.exists()


def test_a_folder_without_runs(merge, tmp_path):
    code, _, err = merge(tmp_path)
    assert code == 1 and "holds no finished run to merge" in err
