"""The progress of a grid's runs, read from their folders."""

from spt.grid.progress_bars import watching
from spt.records.schema import FAILURE, RECORD


def test_a_run_that_ends_leaves_a_line(tmp_path, capsys):
    for name in ("done", "failed", "trains"):
        (tmp_path / name).mkdir()
    record = '{"metrics": {"best_dev": 0.25}, "wall_seconds": 3.2, "status": "finished"}'
    with watching(total=3) as runs:
        runs |= {tmp_path / name: f"a run that {name}" for name in ("done", "failed", "trains")}
        (tmp_path / "done" / RECORD).write_text(record)
        (tmp_path / "failed" / FAILURE).write_text('{"error": "out of memory"}')
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["1/3 a run that done best dev 25.00 (3 s)", "2/3 a run that failed failed: out of memory"]
