"""The site of the documentation: `make docs` makes it of these pages, and executes the notebook in another kernel."""

import json
import re

import matplotlib
import pytest

import spt
from tests.conftest import REPO

DOCS = REPO / "docs"


@pytest.mark.slow
def test_the_notebook_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cells = json.loads((DOCS / "tour.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells)
    names: dict = {}
    with matplotlib.rc_context({"backend": "agg"}):
        for text in code:
            exec(compile(text, "tour.ipynb", "exec"), names)
    assert "15,618 of" in capsys.readouterr().out
    assert (
        names["record"]["status"] == "finished"
        and names["predictor"]("the road from figa tevmi to sorado is long .")["entities"]
    )
    assert names["figure"].axes and names["insight"].examples == len(names["examples"])


def test_every_page_is_in_the_contents():
    listed = re.findall(
        r"^(\w+)$", "".join(re.findall(r"```{toctree}.*?```", (DOCS / "index.md").read_text(), re.S)), re.M
    )
    pages = {path.stem for kind in ("*.md", "*.ipynb") for path in DOCS.glob(kind)} - {"index"}
    assert sorted(listed) == sorted(pages)


def test_the_reference_has_every_public_name():
    named = re.findall(r"auto(?:function|class):: (\w+)", (DOCS / "api.md").read_text())
    assert sorted(named) == sorted(spt.__all__)


@pytest.mark.slow
def test_the_site_is_made_without_warnings(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    from sphinx.cmd.build import main

    assert main(["--fail-on-warning", "-q", "-b", "html", str(DOCS), str(tmp_path / "html")]) == 0
    page = (tmp_path / "html/tour.html").read_text()
    assert "parameters are trained" in page and "<img" in page
    for made in tmp_path.glob("html/*.html"):
        assert not re.search(r'(?:src|<link[^>]+href)="https?:', made.read_text()), made.name
