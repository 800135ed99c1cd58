"""The pages in a real browser: nothing overflows, nothing is loaded, nothing is wrong in the console."""

import pytest

from spt.figure_style import figure_files
from spt.insight.figures import drawings
from spt.insight.pages import insight_page, text_page
from tests.insight.browser import CHROMIUM, seen
from tests.insight.test_figures import EPOCHS, insight_of
from tests.insight.test_text import made

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]


def page_of(kind: str) -> str:
    if kind == "text":
        return text_page(made())
    insight = insight_of(adapter="/a/" + "very_long_name_" * 20)
    figures = {name: figure_files(name, draw)[f"{name}.svg"] for name, draw in drawings(insight, EPOCHS).items()}
    return insight_page(insight, figures)


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("kind", ["insight", "text"])
def test_a_page(kind, width, tmp_path):
    path = tmp_path / f"{kind}.html"
    path.write_text(page_of(kind))
    found = seen(path, width, tmp_path)
    assert found["width"] == width and found["scroll_width"] <= width and found["height"] > 500
    assert found["outside"] == found["requests"] == found["console"] == []


def test_what_is_wrong_is_seen(tmp_path):
    """A page that overflows and wants an image from elsewhere fails the test above."""
    path = tmp_path / "bad.html"
    bad = '<p style="width: 900px">wide</p><img src="https://example.invalid/a.png">'
    path.write_text(text_page(made()).replace("<h1>", f"{bad}<h1>"))
    found = seen(path, 400, tmp_path)
    assert found["scroll_width"] > 400 and found["outside"] and (found["console"] or found["requests"])
