"""The figures and the page of an insight."""

import re
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest

from spt.figure_style import figure_files
from spt.insight.figures import NAMES, drawings
from spt.insight.inspect_adapter import inspect
from spt.insight.pages import insight_page
from spt.insight.result import Insight, Intervention, Interventions
from spt.insight.result_files import similarity_by_epoch, write_insight
from spt.insight.summary_rows import intervention_rows, layer_columns
from tests.insight.test_measures import batches_of, model_of

KINDS = ("svg", "png", "pdf")
EMPTY = ("meta", "link", "br", "path", "use", "image", "rect")


def epoch(number: int) -> dict:
    """A row of a history, as a run of two layers writes it."""
    by_layer = {"key": [0.1 * number, 0.2], "value": [0.3, 0.4]}
    return {"epoch": number, "prefixes": {"mean_abs_cosine": by_layer, "effective_rank": by_layer, "norm": by_layer}}


EPOCHS = [epoch(number) for number in range(3)]


def change(kind: str, which: int | None, difference: float) -> Intervention:
    values = {"score": 0.5 + difference, "difference": difference, "low": difference - 0.01, "high": difference + 0.02}
    return Intervention(kind=kind, which=which, **values)


def insight_of(alpha: float | None = 8.0, interventions: bool = True, **about) -> Insight:
    """Of a model of two layers, with the name of a task and interventions that were not made."""
    found = inspect(model_of(alpha=alpha), batches_of("sentence"))
    changes = [change("without_slot", 0, 0.011), change("without_layer", 1, -0.0123), change("keep", 0, -0.2)]
    changes += [change("keep", 3, 0.0), change("gate_off", None, -0.03)]
    made = Interventions(metric="accuracy", score=0.5, compared="accuracy", changes=tuple(changes))
    about = {"task": "a <b>task</b> & more", "split": "test", "interventions": made if interventions else None} | about
    return found.model_copy(update=about)


@cache
def files() -> dict[str, bytes]:
    drawn = {}
    for name, draw in drawings(insight_of(), EPOCHS).items():
        drawn |= figure_files(name, draw, KINDS)
    return drawn


class Parsed(HTMLParser):
    """The tags, attributes and visible text of a page; closing tags must match."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def parsed(page: str) -> Parsed:
    """A page that is whole, names its language, loads nothing and has each id once."""
    found = Parsed(page)
    names = [tag for tag, _ in found.tags]
    assert not found.open and names[0] == "html" and found.tags[0][1]["lang"] == "en"
    assert names.count("h1") == names.count("main") == 1 and "script" not in names and "link" not in names
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), (tag, value[:80])
            assert not value.startswith("#") or value == "#" or value[1:] in ids, value
        assert not any(name.startswith("on") for name in attributes)
        if "scroll" in (attributes.get("class") or ""):
            assert attributes["tabindex"] == "0" and attributes["aria-label"] and attributes["role"] == "region"
        for target in re.findall(r"url\(#([^)]+)\)", " ".join(filter(None, attributes.values()))):
            assert target in ids
    styles = "".join(re.findall(r"<style.*?</style>", page, re.DOTALL))
    assert "url(" not in styles and "@import" not in styles
    assert names.count("table") == names.count("caption")
    assert names.count("figure") == names.count("figcaption")
    assert all(attributes.get("role") == "img" for tag, attributes in found.tags if tag == "svg")
    return found


@pytest.mark.slow
def test_every_figure_is_drawn_the_same_each_time():
    first = files()
    assert [name for name in first if name.endswith(".svg")] == [f"{name}.svg" for name in NAMES]
    draw = drawings(insight_of(), EPOCHS)
    for name in ("prefix_mass", "training"):
        again = figure_files(name, draw[name], KINDS)
        assert all(first[file] == content for file, content in again.items()), name
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert all(content.startswith(starts[name.rpartition(".")[2]]) for name, content in first.items())


def test_a_figure_that_has_no_numbers_is_not_there():
    insight = insight_of(alpha=None, interventions=False, label_information=None, split=None)
    names = list(drawings(insight, []))
    assert names == ["prefix_mass", "slot_information", "cosine_key", "cosine_value"]
    page = parsed(insight_page(insight, {}))
    assert "Interventions" not in page.text and "gate mean" not in page.text and "label info" not in page.text


def test_figures_show_the_numbers():
    insight = insight_of()
    found = {name: draw() for name, draw in drawings(insight, EPOCHS).items()}
    for name in ("prefix_mass", "slot_information", "label_information"):
        axes, bar = found[name].axes
        assert axes.images[0].get_array().data == pytest.approx(getattr(insight, name).values)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("head", "layer") and bar.get_ylabel()
        assert len(axes.texts) == insight.layers * insight.heads
    for matrix, name in enumerate(("cosine_key", "cosine_value")):
        for layer, axes in enumerate(found[name].axes[:-1]):
            assert axes.images[0].get_array().data == pytest.approx(insight.cosine.values[layer, matrix])
            assert axes.images[0].get_clim() == (-1, 1)
    cosine = found["training"].axes[0]
    assert [list(line.get_ydata()) for line in cosine.lines] == [pytest.approx([0, 0.1, 0.2]), [0.2] * 3]
    assert list(cosine.lines[0].get_xdata()) == [0, 1, 2]
    counts, kept = found["kept_slots"].axes[0].containers[0][0].get_data()
    assert list(counts) == [0, 3] and kept == pytest.approx([-20, 0])
    dots = found["interventions"].axes[0]
    values = np.concatenate([container[0].get_xdata() for container in dots.containers])
    assert values == pytest.approx([1.1, -1.23, -3])
    assert [label.get_text() for label in dots.get_yticklabels()] == ["without slot 0", "without layer 1", "gate off"]
    ends = dots.containers[0][2][0].get_segments()[0][:, 0]
    assert list(ends) == pytest.approx([0.1, 3.1])


def test_large_adapters_have_legible_axes():
    """24 layers of 16 heads, 100 slots: no numbers in cells, few ticks, matrices in rows of four."""
    insight = insight_of()
    wide = {"values": np.full((24, 16), 0.3)}
    large = insight.model_copy(
        update={
            "prefix_mass": insight.prefix_mass.model_copy(update=wide),
            "cosine": insight.cosine.model_copy(update={"values": np.zeros((24, 2, 100, 100))}),
        }
    )
    functions = drawings(large, [])
    heads = functions["prefix_mass"]()
    assert not heads.axes[0].texts and len(heads.axes[0].get_yticks()) <= 13
    cosines = functions["cosine_key"]()
    assert len(cosines.axes) == 25 and cosines.get_figwidth() < 10 and len(cosines.axes[0].get_yticks()) <= 5


def test_the_page_has_the_numbers_and_loads_nothing():
    insight = insight_of()
    svg = {name.removesuffix(".svg"): content for name, content in files().items() if name.endswith(".svg")}
    page = insight_page(insight, svg)
    found = parsed(page)
    assert sum(tag == "svg" for tag, _ in found.tags) == len(NAMES)
    assert "<b>task</b>" not in page and "a <b>task</b> & more" in found.text
    for values in layer_columns(insight).values():
        assert all(f"{value:.3f}" in found.text for value in values)
    for row in intervention_rows(insight.interventions):
        assert all(cell in found.text for cell in row)
    assert "-1.23" in found.text and "-2.23 to +0.77" in found.text


def test_the_history_of_a_run(tmp_path):
    assert similarity_by_epoch(tmp_path) == []
    rows = [epoch(0), {"epoch": 1, "dev_loss": 0.5}, epoch(2)]
    path = tmp_path / "history.jsonl"
    path.write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
    for half in ("", '{"epoch"'):
        path.write_text(path.read_text() + half)
        assert similarity_by_epoch(tmp_path) == [EPOCHS[0], EPOCHS[2]]


def test_figures_of_an_earlier_result_are_deleted_and_others_are_not(tmp_path, undrawn):
    (tmp_path / "history.jsonl").write_text("")
    figures = tmp_path / "figures"
    figures.mkdir()
    for name in ("interventions.pdf", "training.svg", "mine.pdf"):
        (figures / name).write_text("old")
    write_insight(tmp_path, insight_of(interventions=False), tmp_path)
    names = {path.name for path in figures.iterdir()}
    assert names == {f"{name}.{kind}" for name in NAMES[:5] for kind in KINDS} | {"mine.pdf"}
    assert {path.name for path in tmp_path.glob("*.*")} == {"history.jsonl", "insight.json", "insight.html"}
