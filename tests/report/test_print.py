"""What a paper gets: one look a row, figures as PDF, tables with the best marked: `spt.report format=latex`."""

import csv
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from matplotlib.colors import to_rgb
from omegaconf import OmegaConf
from pandas import concat

from spt.figure_style import COLUMN, GREY, PAGE, figure_files, looks
from spt.grid.match_records import Finished, Records, collect
from spt.paths import CONF
from spt.report.compact_tables import Choice, PrintTable, Score, print_tables
from spt.report.figure_layout import INTERVALS, seed_interval
from spt.report.figures import drawings
from spt.report.latex import print_latex
from spt.report.number_format import Names
from spt.report.runs_frame import runs_frame
from spt.report.seed_means import cells_frame
from tests.conftest import REPO
from tests.report.test_report import Made, outcomes

TITLES = {"superglue": "SuperGLUE", "sl_weight": "Weight of the selective loss"}
RIGHT = {
    "fine_tuning": (240, 246, 243),
    "prefix_tuning": (200, 202, 204),
    "spt": (241, 243, 246),
    "spt_sl": (245, 240, 241),
}


@pytest.fixture(scope="module")
def made(demo, tmp_path_factory):
    """RTE with four rows of three seeds and baselines, and a sweep over the weight of the selective loss."""
    made = Made(demo, tmp_path_factory.mktemp("print"), "table=[superglue,sl_weight]", "profile=paper")
    known = {"validation": {"majority": 0.7, "random": 0.1}}
    for place, (row, rights) in enumerate(RIGHT.items()):
        for seed, right in zip((11, 12, 13), rights, strict=True):
            facts = {"baselines": known, "trainable_parameters": 10 ** (place + 3)}
            made.run(f"superglue/rte/bert-base-cased/{row}", seed, outcomes(right), **facts)
    for weight in ("0.0", "0.01"):
        for seed in (11, 12):
            made.run(f"sl_weight/rte/bert-base-cased/spt_sl/{weight}", seed, outcomes(200 + seed))
    made.run("superglue/wic/bert-base-cased/spt", 11, outcomes(9), collapsed=True)
    return made


@pytest.fixture(scope="module")
def frames(made):
    """Its `cells_frame` and `runs_frame`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        results = collect(made.cells.values(), Records(made.folder / "records"), made.composer)
    runs = runs_frame(results)
    return cells_frame(results, runs), runs


@pytest.fixture(scope="module")
def names(made):
    return Names(made.config)


def test_a_row_has_one_look_everywhere():
    shipped = [path.stem for path in (CONF / "method").glob("*.yaml")]
    tables = [OmegaConf.load(path) for path in (CONF / "table").glob("*.yaml")]
    rows = dict.fromkeys([*shipped, *(str(row) for table in tables for row in table.rows)])
    found = looks(rows)
    assert len({str(each) for each in found.values()}) == len(rows)  # no two alike, in grey too
    assert len({(found[row]["marker"], str(found[row]["linestyle"])) for row in rows}) == len(rows)
    assert all(looks([row])[row] == found[row] == looks(["mine", row])[row] for row in rows)
    assert not any(to_rgb(each["color"]) == to_rgb(GREY) for each in found.values())
    own = [f"mine_{number}" for number in range(12)]
    assert looks([*own, *rows]) == looks([*rows, *reversed(own)]) == looks(own) | found
    assert len({str(each) for each in looks([*own, *rows]).values()}) == len(own) + len(rows)
    assert len({each["color"] for each in looks(own[:5]).values()}) == 5


def test_everything_shipped_has_a_display_name_that_changes_no_run(names, made):
    for group, known in OmegaConf.to_container(made.config.display).items():
        if group in ("task", "model"):
            assert {path.stem for path in (CONF / group).glob("*.yaml")} - {"custom"} == set(known)
    tables = [OmegaConf.load(path) for path in (CONF / "table").glob("*.yaml")]
    methods = [path.stem for path in (CONF / "method").glob("*.yaml")]
    assert {*methods, *(str(row) for table in tables for row in table.rows)} == set(made.config.display.row)
    assert {str(key) for table in tables for key in table.get("sweep", {})} == set(made.config.display.setting)
    assert (names.task("conll04"), names.model("bert-base-cased"), names.row("spt_sl")) == (
        *("CoNLL04", "BERT-base (cased)", "SPT + SL"),
    )
    assert names.task("mine") == "mine" and names.setting("method.l2") == "l2" and names.row("my_method") == "my_method"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert "display" not in compose("train", [])


def scores_axis(figure):
    return next(axes for axes in figure.axes if axes.get_ylabel().endswith("%"))


def test_figures_do_not_make_noise_look_large(frames, names):
    cells, runs = frames
    found = drawings(TITLES, cells, runs, names)
    own = cells[(cells.table == "superglue") & (cells.task == "rte") & (cells.n > 0)]
    for name in ("superglue.rte.bert-base-cased.curves", "superglue.cost", "sl_weight.rte.bert-base-cased.sensitivity"):
        low, high = scores_axis(found[name].draw()).get_ylim()
        shown = cells[(cells.table == "sl_weight") & (cells.n > 0)] if name.startswith("sl") else own
        width = seed_interval(shown[shown.quantity == "best_dev"])
        assert high - low >= INTERVALS * width and high <= 101
        assert f"{width:.1f} points wide" in found[name].caption
    assert "(spt" not in "".join(drawing.caption for drawing in found.values())
    assert "majority class 70.00, random classes 10.00" in found["superglue.cost"].caption


def test_baselines_are_lines_and_rows_that_coincide_are_told_apart(frames, names):
    cells, runs = frames
    same = cells[cells.row == "spt"].assign(row="spt_sl")
    cells = cells[cells.row != "spt_sl"]
    together = concat([cells, same], ignore_index=True)
    figure = drawings(TITLES, together, runs, names)["superglue.cost"].draw()
    left = figure.axes[0]
    lines = {line.get_label(): line for line in left.lines}
    assert lines["majority class"].get_ydata()[0] == pytest.approx(70) and "random classes" not in lines  # far below
    points = {box.get_label(): box.lines[0].get_transform() for box in left.containers}
    places = [points[name].transform((1e5, 80))[0] for name in ("SPT", "SPT + SL")]
    assert abs(places[0] - places[1]) * 72 / figure.dpi >= 2  # points


def test_no_figure_is_of_a_single_point(frames, names):
    cells, runs = frames
    shown = set(drawings(TITLES, cells, runs, names))
    # wic has a single row; its curve has two epochs
    assert {name for name in shown if "cost" in name} == {"superglue.cost"}
    assert "superglue.wic.bert-base-cased.curves" in shown
    rows = {axes.get_title(loc="left") for axes in drawings(TITLES, cells, runs, names)["superglue.cost"].draw().axes}
    assert rows == {"RTE, BERT-base (cased): dev, best epoch", ""}
    short = [SimpleNamespace(history=each.history[:1]) if isinstance(each, Finished) else None for each in runs.run]
    assert not any(name.endswith("curves") for name in drawings(TITLES, cells, runs.assign(run=short), names))
    one = cells[(cells.table != "sl_weight") | (cells.value == "0.0")]
    assert not any(name.endswith("sensitivity") for name in drawings(TITLES, one, runs, names))


@pytest.mark.parametrize(
    ("width", "name"), [(COLUMN, "superglue.cost"), (PAGE, "superglue.rte.bert-base-cased.curves")]
)
def test_figures_have_the_width_of_a_paper_and_the_same_bytes(width, name, frames, names):
    files, again = (
        figure_files(name, drawings(TITLES, *frames, names, width)[name].draw, ("svg", "pdf")) for _ in range(2)
    )
    assert files == again
    svg = files[f"{name}.svg"].decode()
    assert "font-family: 'DejaVu Sans', 'Verdana', 'Arial', 'Helvetica', sans-serif" in svg
    assert ">trainable parameters</text>" in svg or ">epoch</text>" in svg
    assert float(re.search(r'width="([\d.]+)pt"', svg)[1]) == pytest.approx(72 * width)


def table_of(frames, names, table="superglue", **choice) -> PrintTable:
    cells = frames[0]
    (found,) = print_tables(TITLES[table], cells[cells.table == table], names, Choice(**choice))
    return found


def scores_of(table: PrintTable, task: str = "RTE") -> dict[str, Score]:
    """The scores of a column by row, of the first model."""
    column = [name for name, _ in table.columns].index(task)
    return {place[0]: scores[column] for place, scores in table.blocks[0][1]}


def test_the_best_of_a_column_is_bold_and_ties_are_underlined(frames, names):
    table = table_of(frames, names)
    scores = scores_of(table)
    assert [name for name, score in scores.items() if score.is_best] == ["SPT"]
    assert [name for name, score in scores.items() if score.is_tied] == ["Fine-tuning", "SPT + SL"]
    assert (scores["SPT + SL, published"].mean, scores["Majority class"].mean) == ("74.37", "70.00")
    assert "Bold: the highest mean of our runs with a model. Underlined: the 95 % interval" in table.caption
    text = print_latex(table)
    mean, std = (f"{100 * f(RIGHT['spt']) / 277:.2f}" for f in (np.mean, lambda scores: np.std(scores, ddof=1)))
    assert rf"& \textbf{{{mean}}}{{\tiny\,$\pm${std}}}" in text and r"\underline{" in text
    assert r"\caption{SuperGLUE: accuracy on" in text and r"\label{tab:superglue}" in text
    assert r"\multicolumn{6}{l}{\textit{BERT-base (cased)}}" in text and "resizebox" not in text
    assert "dagger" not in text and r"$\dagger$: one or more runs collapsed" in print_latex(
        table_of(frames, names, marks=True)
    )


def test_columns_and_rows_are_chosen(frames, names):
    table = table_of(
        frames, names, columns=("last_dev", "rte"), rows=("spt", "spt_sl", "bert-base-cased"), published=False
    )
    assert (
        table.columns == [("RTE", "")] and "(dev, last epoch)" in table.caption and "BERT-base (cased)" in table.caption
    )
    assert list(scores_of(table)) == ["SPT", "SPT + SL", "Majority class", "Random classes"]
    table = table_of(frames, names, columns=("wic", "best_dev", "rte", "last_dev"), rows=("bert-base-cased",))
    dev = ("dev, best epoch", "dev, last epoch")
    assert table.columns == [("WiC", dev[0]), ("WiC", dev[1]), ("RTE", dev[0]), ("RTE", dev[1])]
    assert scores_of(table, "WiC")["SPT"] == Score("3.25", n="1")
    swept = table_of(frames, names, "sl_weight")
    assert swept.places == ["λ"] and swept.caption.startswith(
        "Weight of the selective loss, SPT + SL, BERT-base (cased):"
    )


def test_a_table_that_is_wider_than_a_page_is_split():
    row = (["Row"], [Score("72.00", "1.00")] * 14)
    text = print_latex(PrintTable("t", "All.", ["Method"], [(f"Task {n}", "") for n in range(14)], [("m", [row])]))
    assert r"\label{tab:t-1}" in text and r"\label{tab:t-2}" in text and "All. Part 2." in text
    assert text.count(r"\begin{table*}") == 2 and text.count("72.00") == 14


@pytest.fixture
def here(made, tmp_path):
    """The arguments of a report of the records, in a folder of its own."""
    shutil.copytree(made.folder / "records", tmp_path / "records")
    return ("table=[superglue,sl_weight]", "profile=paper", f"results_dir={tmp_path}")


def test_the_command_prints_a_table_and_writes_no_report(here, tmp_path, command):
    code, out = command(*here, "format=latex", "table=superglue", "columns=[rte]")
    assert code is None and out.startswith(r"\begin{table") and r"\textbf{" in out and "BoolQ" not in out
    target = tmp_path / "paper" / "table.tex"
    assert command(*here, "format=latex", "table=superglue", "columns=[rte]", f"output={target}") == (None, "")
    assert target.read_text() == out and not (tmp_path / "README.md").exists()
    code, out = command(*here, "format=csv", "table=superglue", "columns=[rte]", "published=false")
    lines = list(csv.DictReader(out.splitlines()))
    assert lines[0]["Method"] == "Fine-tuning" and re.fullmatch(r"\d\d\.\d\d ± \d\.\d\d", lines[0]["RTE"])
    code, out = command(
        *here, "format=markdown", "display.row.spt=My SPT", "+display.task.mine=Mine", "table=superglue", "rows=[spt]"
    )
    assert "| BERT-base (cased) | My SPT | " in out


def test_the_command_writes_figures_with_captions(here, tmp_path, command):
    code, out = command(*here, "figures=column", "table=sl_weight")
    assert code is None and "1 figures" in out
    folder = tmp_path / "print" / "column"
    assert (folder / "sl_weight.rte.bert-base-cased.sensitivity.pdf").read_bytes().startswith(b"%PDF")
    text = (folder / "figures.tex").read_text()
    assert r"\includegraphics[width=\linewidth]{sl_weight.rte.bert-base-cased.sensitivity.pdf}" in text
    assert r"$\lambda$" in text and r"\label{fig:sl_weight.rte" in text and not (tmp_path / "README.md").exists()


NASTY = r'A_b & 50% #1 {x} ~ ^ \cmd $5 <|> α é ± − § "q"'


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
def test_latex_compiles_and_fits(made, here, tmp_path, command):
    nasty = PrintTable(
        *("nasty", NASTY, [NASTY, "v"], [(f"T_{n} & x", "test %") for n in range(14)]),
        [(NASTY, [([NASTY, "0.1"], [Score("100.00", "10.00", "3", "†‖", is_best=True)] * 14)]), ("m", [])],
    )
    (tmp_path / "nasty.tex").write_text(print_latex(nasty))
    assert command(*here)[0] is None
    assert command(*here, "figures=column")[0] is None and command(*here, "figures=page")[0] is None
    inputs = ["nasty", "tables/superglue", "tables/sl_weight", "print/column/figures", "print/page/figures"]
    inputs += [str(path) for path in sorted((REPO / "results/tables").glob("*.tex"))]
    lines = [
        r"\documentclass[twocolumn,10pt]{article}",
        r"\usepackage[textwidth=455pt,textheight=680pt,columnsep=17pt]{geometry}",
        r"\usepackage{booktabs,graphicx}",
        r"\graphicspath{{print/column/}{print/page/}}",
        r"\begin{document}",
        *(rf"Text. \input{{{name}}}\clearpage" for name in inputs),
        r"\end{document}",
    ]
    (tmp_path / "paper.tex").write_text("\n".join(lines))
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    wide = re.findall(r"Overfull \\hbox \((\d+)\.\d+pt too wide\) in paragraph.*", log)
    assert not wide, wide
    assert "Float too large" not in log
