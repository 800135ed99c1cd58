"""The page of a report: its structure, its data, and what it does in a real browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from spt.report import figures, paired_tests
from spt.report.page import VENDOR
from spt.report.page_data import dev_curve
from tests.conftest import REPO
from tests.insight.browser import CHROMIUM, seen
from tests.report.test_report import Made, outcomes

NASTY = "</script><script>alert('1')</script><img src=x onerror=alert(2)> &"

RECORD = min((REPO / "results" / "records").glob("stsb.*"))  # which other records are made of

MOST_BYTES = 2_000_000


class Page(HTMLParser):
    """The elements of a page with their attributes, and the texts of those whose text counts."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {name: [] for name in ("script", "caption", "h2", "button", "li")}
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in self.texts.keys() & {*self.inside}:
            self.texts[tag][-1] += data

    def all(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def data(self, name: str) -> dict:
        places = [place for place, script in enumerate(self.all("script")) if script.get("id") == name]
        return json.loads(self.texts["script"][places[0]])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """RTE with three methods, one of which failed, a sweep, and a run whose command is no command."""
    made = Made(RECORD, tmp_path_factory.mktemp("page"), "table=[superglue,sl_weight]", "profile=paper")
    for seed, right in ((11, 200), (12, 204), (13, 206)):
        made.run("superglue/rte/bert-base-cased/spt_sl", seed, outcomes(right), command=f"python {NASTY}")
        made.run("superglue/rte/bert-base-cased/spt", seed, outcomes(right - 5), trainable_parameters=99)
    made.run("superglue/copa/bert-base-cased/spt", 11, outcomes(60, 100))
    made.fail("superglue/rte/bert-base-cased/fine_tuning", 11, NASTY)
    for weight, right in (("0.0", 190), ("0.01", 200), ("0.1", 195)):
        for seed in (11, 12):
            made.run(f"sl_weight/rte/bert-base-cased/spt_sl/{weight}", seed, outcomes(right + seed))
    return made


@pytest.fixture(scope="module")
def html(made) -> str:
    return made.report()["index.html"]


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_the_page_is_one_file_that_loads_nothing(page, html):
    links = [value for _, own in page.elements for name, value in own.items() if name in ("src", "href", "action")]
    ids = [own["id"] for _, own in page.elements if "id" in own]
    assert all(link.startswith("#") and link[1:] in ids for link in links) and len({*ids}) == len(ids)
    assert not re.search(r"@import|url\(", html) and "<link" not in html
    policy = next(own["content"] for own in page.all("meta") if "http-equiv" in own)
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.partition("script-src")[2]
    scripts = [text for own, text in zip(page.all("script"), page.texts["script"], strict=True) if "type" not in own]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(scripts) == 3 and all(f"'sha256-{each}'" in policy for each in hashes)
    assert not [name for _, own in page.elements for name in own if name.startswith("on")]


def test_tables_and_controls_are_what_screen_readers_expect(page):
    assert len(page.all("caption")) == len(page.all("table")) > 4 and all(page.texts["caption"])
    assert {own.get("scope") for own in page.all("th")} <= {"col", "row", "colgroup"}
    assert all(own.get("type") in ("button", "reset") for own in page.all("button")) and all(page.texts["button"])
    assert len(page.all("label")) == len(page.all("select")) == 6
    assert {own["aria-labelledby"] for own in page.all("section")} <= {own.get("id") for own in page.all("h2")}
    assert page.all("a")[0] == {"class": "skip", "href": "#main"} and page.all("html") == [{"lang": "en"}]
    assert all(own["aria-label"] for _, own in page.elements if own.get("role") in ("img", "region"))


def test_verdicts_come_first_and_what_was_not_run_is_folded(page, html):
    assert page.texts["h2"][:3] == ["Verdicts", "Scores", "Differences"]
    assert "Does the gate help, everything else equal?" in html
    folded = html.partition("What was not run</h2>")[2]
    assert "<details><summary>Cells without all their runs" in folded and "superglue, roberta-large" in folded
    assert "Published numbers without a run beside them: " in folded


def test_text_of_runs_is_text(page, html):
    assert NASTY not in html and "alert(2)>" not in html
    (problem,) = [text for text in page.texts["li"] if "alert" in text]
    assert problem.endswith(f": failed: {NASTY}") or NASTY in problem
    runs = page.data("data")["runs"]
    commands = [" ".join(runs["texts"][place] for place in words) for words in runs["command"]]
    assert commands.count(f"python {NASTY}") == 3


def test_each_score_opens_its_runs(page):
    data = page.data("data")
    opened = {}
    for own, text in zip(page.all("button"), page.texts["button"], strict=True):
        if "data-cell" in own and "±" in text:
            cell = data["cells"][int(own["data-cell"])]
            opened.setdefault(cell["name"], []).append((cell, text))
    cell, best = opened["superglue/rte/bert-base-cased/spt_sl"][0]
    scores = [data["runs"]["scores"]["best_dev"][place] for place in cell["runs"]]
    mean, std = map(float, best.rstrip("¶").split(" ± "))
    assert mean == pytest.approx(np.mean(scores), abs=0.01) and std == pytest.approx(np.std(scores, ddof=1), abs=0.02)
    assert [data["runs"]["seed"][place] for place in cell["runs"]] == [11, 12, 13]
    assert cell["published"][0].startswith("Best dev: 74.37, authors-release@a7b9e97")
    text = data["runs"]["texts"]
    place = cell["runs"][0]
    assert text[data["runs"]["commit"][place]] == "c0ffee" + "0" * 34 and text[data["runs"]["data"][place]] == "0123"
    assert data["runs"]["curve"][place] == [pytest.approx(scores[0] / 2, abs=0.01), scores[0]]
    failed = [cell for cell in data["cells"] if cell["problems"]]
    assert [cell["name"] for cell in failed] == ["superglue/rte/bert-base-cased/fine_tuning"]


def test_charts_have_the_numbers_of_the_tables(page, made):
    charts = page.data("charts-data")
    (curves,) = [chart for chart in charts["curves"] if chart["task"] == "rte"]
    by_row = {series["label"]: series for series in curves["series"]}
    assert len(by_row["spt_sl"]["runs"]) == 3 and max(by_row["spt_sl"]["published"][1]) == pytest.approx(
        74.37, abs=0.01
    )
    (sweep,) = charts["sweeps"]
    assert sweep["x"] == {"label": "method.sl_weight", "ticks": ["0", "0.01", "0.1"]}
    (series,) = sweep["series"]
    assert series["x"] == [0, 1, 2] and series["n"] == [2, 2, 2] and series["err"][0] > 0
    assert series["y"][1] == pytest.approx(100 * 211.5 / 277, abs=0.001)
    assert {chart["task"] for chart in charts["cost"]} == {"rte"}  # all runs of COPA have as many parameters
    assert len(page.all("figure")) == sum(map(len, charts.values()))


def test_many_rows_have_no_figure_and_no_tests_over_examples(made, monkeypatch):
    monkeypatch.setattr(figures, "MOST_ROWS", 1)
    monkeypatch.setattr("spt.report.page_charts.MOST_ROWS", 1)
    monkeypatch.setattr(paired_tests, "MOST_COMPARISONS", 1)
    texts = made.report()
    assert not [name for name in texts if name.startswith("figures/superglue.rte")]
    charts = Page(texts["index.html"]).data("charts-data")
    assert [chart["task"] for chart in charts["curves"]] == ["copa"] and charts["sweeps"]
    assert "not tested" in texts["tables/sl_weight.md"] and "not tested" not in texts["tables/superglue.md"]


def test_a_long_curve_is_thinned():
    history = [{"epoch": 0}, *({"epoch": epoch, "dev_f1": epoch / 1000} for epoch in range(1, 251))]
    curve, step = dev_curve(history, "f1")
    assert step == 3 and len(curve) == 83 and curve[0] == 0.3 and dev_curve(history[:9], "f1")[1] == 1


def test_the_libraries_have_their_licences(html):
    for folder in (path for path in VENDOR.iterdir() if path.is_dir()):
        licence = (folder / "LICENSE").read_text()
        assert "MIT" in licence or "free of charge" in licence
        assert licence in html and folder.name in html


def test_the_committed_page_is_small():
    assert (REPO / "results/index.html").stat().st_size <= MOST_BYTES


ACTIONS = """
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const all = (selector) => [...page.querySelectorAll(selector)];
const rows = () => all("#score-table tbody tr").filter((row) => !row.hidden);
const choose = (name, value) => {
  const select = page.querySelector(`select[name=${name}]`);
  select.value = value;
  select.dispatchEvent(new Event("change", { bubbles: true }));
};
const found = {};
const column = () => rows().map((row) => parseFloat(row.cells[2].textContent));
const score = all("#score-table thead button")[2];
found.tab_stops = all("#score-table thead th").filter((each) => each.tabIndex >= 0).length;
score.focus();
score.click();
found.descending = [score.closest("th").ariaSort, column()];
score.click();
found.ascending = [score.closest("th").ariaSort, column()];
found.compared = rows().length;
choose("split", "");
found.all = rows().length;
choose("task", "rte");
choose("seeds", "3");
found.filtered = rows().map((row) => [row.cells[0].textContent, row.dataset.n]);
found.differences = all("#differences tbody tr").filter((row) => !row.hidden).map((row) => row.cells[1].textContent);
choose("method", "spt_sl");
found.methods = [...new Set(rows().map((row) => row.cells[1].textContent))];
found.said = page.getElementById("shown").value;
page.querySelector("button[type=reset]").click();
await wait(50);
found.reset = rows().length;
const button = all("[data-cell]").find((each) => each.textContent.startsWith("73.41"));
button.focus();
button.click();
await wait(300);
const dialog = page.querySelector("dialog");
found.opened = [dialog.open, dialog.textContent.includes("seed=12") || dialog.textContent.includes("Seed 12")];
found.command = dialog.querySelector("pre").textContent;
found.focus = dialog.contains(page.activeElement);
found.curves = dialog.querySelectorAll("canvas").length;
page.getElementById("close").click();
found.closed = [dialog.open, page.activeElement === button];
const background = () => frame.contentWindow.getComputedStyle(page.body).backgroundColor;
const before = background();
page.getElementById("theme").click();
found.theme = [before, background(), page.getElementById("theme").ariaPressed];
page.querySelector("#curves").scrollIntoView();
// Frames come in real time, and the clock of these waits runs ahead of it: hence many short ones.
for (let tries = 0; tries < 40000 && !page.querySelector("#curves .legend button"); tries++) await wait(1);
found.charts = all("#curves .plot canvas").length;
const toggle = page.querySelector("#curves .legend button");
toggle.click();
found.toggled = toggle.ariaPressed;
return found;
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
@pytest.mark.parametrize("width", [1200, 400])
def test_in_a_browser(width, html, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(html)
    seen_there = seen(path, width, tmp_path, ACTIONS)
    assert seen_there["console"] == seen_there["requests"] == seen_there["outside"] == []
    assert seen_there["scroll_width"] <= width and seen_there["height"] > 2000
    found = seen_there["result"]
    assert isinstance(found, dict), found
    order, numbers = found["descending"]
    numbers = [number for number in numbers if number is not None]
    assert order == "descending" and numbers == sorted(numbers, reverse=True) and len(numbers) > 4
    assert found["ascending"][0] == "ascending" and found["ascending"][1][-1] == numbers[0]
    assert found["tab_stops"] == 0  # the button in the heading is the only one
    assert found["all"] == found["reset"] > found["compared"]
    assert {task for task, _ in found["filtered"]} == {"rte"} and {n for _, n in found["filtered"]} == {"3"}
    assert {*found["differences"]} == {"rte"}
    assert found["methods"] == ["spt_sl"] and found["said"].startswith(f"{2} of ")
    assert found["opened"] == [True, True] and found["command"] == f"python {NASTY}" and found["focus"]
    assert found["curves"] == 1 and found["closed"] == [False, True]
    light, dark, pressed = found["theme"]
    assert light == "rgb(255, 255, 255)" and dark == "rgb(20, 23, 26)" and pressed == "true"
    assert found["charts"] >= 1 and found["toggled"] == "false"
