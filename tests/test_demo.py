"""The embedded demo is what its script makes."""

import filecmp
import importlib.util

from tests.conftest import REPO


def test_the_committed_data_is_what_the_script_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("make_demo", REPO / "scripts" / "make_demo.py")
    make_demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_demo)
    make_demo.write_data(tmp_path)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 7
    _, different, missing = filecmp.cmpfiles(tmp_path, REPO / "spt" / "demo", written, shallow=False)
    assert not different and not missing


def test_the_encoder_is_small():
    files = (REPO / "spt" / "demo" / "encoder").iterdir()
    assert sum(path.stat().st_size for path in files) <= 2_000_000
