"""A real run of the demo, whose record other records are made of."""

import sys

import pytest
from hydra import compose, initialize_config_dir

from spt.grid.cells import cells
from spt.paths import CONF
from spt.report.__main__ import main
from tests.conftest import call

SMOKE = "superglue/demo_pair/demo/fine_tuning"


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The folder of a real run, of a cell of the smoke profile."""
    folder = tmp_path_factory.mktemp("demo")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        (cell,) = (cell for cell in cells(compose("report", ["profile=smoke"])) if cell.name == SMOKE)
    code, _, err = call("spt.train", *cell.jobs(None)[0].overrides, f"output_dir={folder}")
    assert code == 0, err
    (path,) = folder.glob("*/record.json")
    return path.parent


@pytest.fixture(autouse=True, scope="module")
def few_resamples(request):
    """Fewer draws of the bootstrap, which takes most of a report's time, where its numbers are not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_paired_tests"):
            patch.setattr("spt.records.bootstrap.RESAMPLES", 999)
        yield


@pytest.fixture
def command(monkeypatch, capsys):
    """`python -m spt.report` in this process: returns (exit code, standard output)."""

    def call(*overrides: str) -> tuple[str | int | None, str]:
        monkeypatch.setattr(sys, "argv", ["spt.report", *overrides])
        code = None
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        return code, capsys.readouterr().out

    return call
