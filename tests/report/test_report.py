"""`python -m spt.report` on records of the demo, of runs made up of one, and on what is committed."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pandas import DataFrame

from spt.grid.cells import Job, cells
from spt.grid.compose_configs import Composer
from spt.grid.copy_records import publish, withdraw
from spt.grid.match_records import Finished, Records, Result, collect, unused_runs
from spt.numerics_version import NUMERICS
from spt.paths import CONF
from spt.records.bootstrap import RESAMPLES, ExampleTest
from spt.records.comparable_settings import identity
from spt.records.schema import read_record
from spt.report.cell_sources import trace
from spt.report.markdown import markdown
from spt.report.paired_tests import COLUMNS as PAIRED
from spt.report.paired_tests import SeedTest
from spt.report.published_numbers import COMPARES_WITH, CURVES, curve, published, read_numbers, task_config
from spt.report.runs_frame import hardware, runs_frame
from spt.report.seed_means import cells_frame
from spt.report.table_model import Column, Section, Table
from spt.report.verdicts import verdicts
from spt.report.write_report import report_records, write_files
from spt.reproduce import config_fingerprint
from tests.conftest import REPO, SHARED
from tests.report.conftest import SMOKE


class Made:
    """Records on disk, made of a real one: another cell, another seed, other outcomes."""

    def __init__(self, demo: Path, folder: Path, *overrides: str):
        self.folder = folder
        self.record = json.loads((demo / "record.json").read_text())
        with initialize_config_dir(str(CONF), version_base="1.3"):
            self.config = compose("report", list(overrides))
            self.composer = Composer()
            self.cells = {cell.name: cell for cell in cells(self.config)}

    def run(self, cell: str, seed: int, right: list[int], split: str = "validation", rate=None, **changes) -> Path:
        """A run that got some of the examples of a split right, and half of dev at its last epoch."""
        job = Job(self.cells[cell], seed, rate)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = self.composer.config(job)
        name = f"{job.cell.task}.{job.cell.model}.{config['method']['name']}.{len(list(self.folder.glob('*/*')))}"
        score = float(np.mean(right))
        metrics = {"best_dev": score, "last_dev": score / 2, "test": None}
        outcomes = {"best_dev": right, "last_dev": right, "test": None}
        if split != "validation":
            metrics[split], outcomes[split] = score, right
        data = {"fingerprint": "0123", "revision": None, "splits": {"train": {"examples": 9}}}
        data["splits"] |= {name: {"examples": len(right)} for name in ("validation", split)}
        groups = {"task": job.cell.task, "model": job.cell.model, "method": config["method"]["name"]}
        command = " ".join(["python -m spt.train", *job.overrides])
        git = {"commit": "c0ffee" + "0" * 34, "dirty": False}
        there = groups | {
            "seed": seed,
            "config": config,
            "metrics": metrics,
            "data": data,
            "command": command,
            "git": git,
        }
        folder = self.folder / "records" / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(self.record | there | {"metric": "accuracy"} | changes))
        (folder / "outcomes.json").write_text(json.dumps(outcomes))
        rows = [{"epoch": epoch, "dev_accuracy": score * epoch / 2} for epoch in (1, 2)]
        (folder / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return folder

    def fail(self, cell: str, seed: int, error: str) -> None:
        """The note of a failed run."""
        job = Job(self.cells[cell], seed, None)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = self.composer.config(job)
        groups = {"task": job.cell.task, "model": job.cell.model, "method": config["method"]["name"]}
        folder = self.folder / "records" / f"failed.{seed}"
        folder.mkdir(parents=True)
        failure = {n: value for n, value in self.record.items() if n not in ("metrics", "scores")}
        failure |= groups | {"seed": seed, "error": error, "command": "python", "config": config}
        (folder / "failure.json").write_text(json.dumps(failure))

    def report(self) -> dict[str, str]:
        """The texts of the report that is written, by file name."""
        with initialize_config_dir(str(CONF), version_base="1.3"):
            results = collect(self.cells.values(), Records(self.folder / "records"), self.composer)
        written = write(self, results)
        return {str(path.relative_to(self.folder)): path.read_text() for path in written}


def write(made: Made, results: list[Result], unused: Sequence[str] = ()) -> list[Path]:
    """Write the report of some results; returns its files."""
    runs = runs_frame(results)
    return write_files(made.config, cells_frame(results, runs), runs, made.folder, unused)


def outcomes(right: int, of: int = 277) -> list[int]:
    return [1] * right + [0] * (of - right)


@pytest.fixture(scope="module")
def rte(demo, tmp_path_factory):
    """RTE with the settings of the published run: three seeds of five with the gate and SL, others otherwise."""
    made = Made(demo, tmp_path_factory.mktemp("rte"), "table=superglue", "profile=paper")
    for seed, right in ((11, 200), (12, 204), (13, 206)):
        made.run("superglue/rte/bert-base-cased/spt_sl", seed, outcomes(right))
    for minutes, seed in enumerate((44, 11, 12, 13, 14), start=11):
        facts = {"wall_seconds": 60.0 * minutes, "trainable_parameters": 99}
        made.run("superglue/rte/bert-base-cased/spt", seed, outcomes(200), **facts)
    made.run("superglue/rte/bert-base-cased/prefix_tuning", 11, outcomes(200), collapsed=True)
    made.fail("superglue/rte/bert-base-cased/fine_tuning", 11, "out of memory")
    return made


@pytest.fixture(scope="module")
def texts(rte):
    """The report of them."""
    return rte.report()


def row(text: str, start: str, column: str) -> str:
    """A cell of the first Markdown table that has the row and the column."""
    for table in re.split(r"\n\n", text):
        lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:1] == "|"]
        for line in lines[2:]:
            if line[0] == start and column in lines[0]:
                return line[lines[0].index(column)]
    raise AssertionError(f"no {start} with {column}")


def test_the_tables_have_numbers_where_there_are_some_and_words_elsewhere(texts):
    text = texts["tables/superglue.md"]
    scores = [100 * right / 277 for right in (200, 204, 206)]
    mean, std = np.mean(scores), np.std(scores, ddof=1)
    assert row(text, "spt_sl", "rte published") == "74.37 [2]"
    assert row(text, "spt_sl", "rte ours") == f"{mean:.2f} ± {std:.2f} (3 of 5)"
    assert row(text, "spt_sl", "rte Δ").startswith(f"−{74.37 - mean:.2f} (within ±")
    assert row(text, "spt", "rte ours") == "72.20 ± 0.00 (5)"
    assert row(text, "spt", "rte published") == "none" and row(text, "spt", "rte Δ") == "n/a"
    assert row(text, "prefix_tuning", "rte ours") == "72.20 (1 of 5)†"
    assert "runs collapsed: at the best dev epoch they predict one class" in text
    assert row(text, "fine_tuning", "rte ours") == "failed"
    assert row(text, "spt_sl", "boolq ours") == "published only" and row(text, "spt", "boolq ours") == "not run"
    assert "rte 277 (one = 0.36 points)" in text and "seed 44, released run took 7800 steps" in text
    last = text.partition("### Last epoch on dev")[2]
    assert row(last, "spt_sl", "rte published") == "68.59 [2]" and row(last, "spt", "rte ours") == "36.10 ± 0.00 (5)"
    assert not re.search(r"\bnan\b|None", "".join(text for name, text in texts.items() if not name.endswith(".svg")))


def test_the_csv_has_every_line_and_where_it_came_from(rte, texts):
    lines = list(csv.DictReader(texts["tables/superglue.csv"].splitlines()))
    assert len(lines) == 3 * 5 * 4 * 2  # models, tasks, rows, best and last dev
    by_cell = {(line["cell"], line["quantity"]): line for line in lines}
    line = by_cell["superglue/rte/bert-base-cased/spt_sl", "best_dev"]
    assert line["state"] == "partly" and (line["n"], line["planned"]) == ("3", "5")
    assert line["published_source"] == "authors-release@a7b9e97" and line["published_seed"] == "44"
    assert float(line["ours_mean"]) - float(line["published"]) == pytest.approx(float(line["delta"]), abs=1e-4)
    assert line["within"] == "yes" and abs(float(line["delta"])) <= float(line["tolerance"])
    folders = {path.name for path in (rte.folder / "records").iterdir()}
    assert len(line["runs"].split()) == 3 and set(line["runs"].split()) <= folders
    assert line["scores_by_seed"].startswith("11:72.2022 12:")
    assert line["hardware"] == hardware(rte.record) and "," in line["hardware"]
    missing = by_cell["superglue/wic/roberta-large/spt", "last_dev"]
    assert missing["state"] == "not run" and missing["ours_mean"] == "" and missing["n"] == "0"
    assert by_cell["superglue/wic/roberta-large/spt_sl", "last_dev"]["state"] == "published only"
    assert by_cell["superglue/rte/bert-base-cased/fine_tuning", "best_dev"]["state"] == "failed"


def test_differences_say_identical_and_have_corrected_p(texts):
    text = texts["tables/superglue.md"].partition("### Paired tests")[2].partition("## Cost")[0]
    lines = {line.split(" | ")[2]: line.strip("| ").split(" | ") for line in text.splitlines() if "| rte |" in line}
    caveats = "†, method.prefix_length, trainer.per_device_train_batch_size"  # of the two recipes
    assert lines["spt − prefix_tuning"][4:] == ["1", "0.00", *["identical"] * 5, "n/a", caveats]
    assert lines["spt_sl − spt"][3:6] == ["best_dev", "3", "+1.20"]
    assert "identical" not in lines["spt_sl − spt"] and "[" in lines["spt_sl − spt"][8]
    assert "Number of comparisons in this table: 3." in text


def test_which_rows_are_compared(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=paper")
    for row_name in ("fine_tuning", "prefix_tuning", "spt", "spt_sl"):
        made.run(f"superglue/rte/bert-base-cased/{row_name}", 11, outcomes(200))
    text = made.report()["tables/superglue.md"].partition("### Paired tests")[2].partition("\n#")[0]
    assert [line.split(" | ")[2] for line in text.splitlines() if "| rte |" in line] == [
        "fine_tuning − prefix_tuning",
        "spt − prefix_tuning",
        "spt_sl − prefix_tuning",
        "spt − fine_tuning",
        "spt_sl − fine_tuning",
        "spt_sl − spt",
    ]


def test_what_selecting_on_dev_does_stands_side_by_side(texts):
    text = texts["tables/superglue.md"].partition("### Best and last epoch")[2].partition("## Diff")[0]
    lines = [line.removeprefix("| bert-base-cased | ") for line in text.splitlines()]
    assert "rte | spt | none | none | none | 72.20 | 36.10 | +36.10 ± 0.00 | none |" in lines
    assert any(line.startswith("rte | spt_sl | 74.37 | 68.59 | +5.78 | 73.41 | 36.70 |") for line in lines)
    assert f"wsc | spt_sl | 65.38 | 58.65 | +6.73{3 * ' | published only'} | none |" in lines


def test_runs_of_other_data_are_not_compared_by_example(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=paper")
    made.run("superglue/rte/bert-base-cased/spt_sl", 11, outcomes(200))
    folder = made.run("superglue/rte/bert-base-cased/spt", 11, outcomes(190))
    record = json.loads((folder / "record.json").read_text())
    record["data"]["fingerprint"] = "4567"
    (folder / "record.json").write_text(json.dumps(record))
    text = made.report()["tables/superglue.md"]
    assert row(text, "spt", "rte ours").endswith("‖") != row(text, "spt_sl", "rte ours").endswith("‖")
    assert "used other data than most runs of the task" in text
    assert "+3.61 | n/a | n/a | other data | other data | other data | n/a |" in made.report()["tables/superglue.md"]


def test_who_reads_meanwhile_finds_whole_runs(demo, tmp_path):
    files, runs = ("record.json", "history.jsonl", "outcomes.json"), []
    for number in range(40):
        (folder := tmp_path / "runs" / f"run.{number}").mkdir(parents=True)
        for name in files:
            shutil.copy(demo / name, folder)
        record = read_record(folder / "record.json")
        runs.append(Finished(record | {"config": record["config"] | {"seed": number}}, folder))

    def found_during(write: Callable[[Finished], None]) -> Iterator[Collection[Finished]]:
        writer = Thread(target=lambda: [write(one) for one in runs])
        writer.start()
        while writer.is_alive():
            yield Records(tmp_path / "records").finished.values()

    numbers = set()
    for found in found_during(lambda one: publish(one, tmp_path / "records")):
        assert all(one.history and one.outcomes for one in found)
        numbers.add(len(found))
    numbers |= {len(found) for found in found_during(lambda one: withdraw(tmp_path / "records" / one.folder.name))}
    assert len(numbers) > 2 and not list((tmp_path / "records").iterdir())


@pytest.mark.parametrize("saw", ["the data that is there now", "other data"])
def test_runs_are_held_against_the_data_that_is_there_now(saw, demo, tmp_path):
    shutil.copytree(demo, tmp_path / "records" / demo.name)
    path = tmp_path / "records" / demo.name / "record.json"
    record = json.loads(path.read_text())
    if saw == "other data":
        record["data"]["fingerprint"] = "4567"
        path.write_text(json.dumps(record))
    signs = []
    for data_dir in ("null", tmp_path):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            places = (f"results_dir={tmp_path}", f"data_dir={data_dir}")
            config = compose("report", ["profile=smoke", "table=superglue", *places])
            report_records(config, config_fingerprint)
        lines = csv.DictReader((tmp_path / "tables" / "superglue.csv").read_text().splitlines())
        signs.append({line["other_data"] for line in lines if line["state"] == "partly"})
    assert signs == [{"no"}, {"yes" if saw == "other data" else "no"}]


def test_marks_of_diverged_and_dirty_runs(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=paper")
    nothing = {"best_dev": None, "last_dev": None, "test": None}
    made.run(
        *("superglue/rte/bert-base-cased/spt", 11, outcomes(9)),
        **{"status": "diverged", "warnings": ["nan"], "metrics": nothing, "adapter_bytes": None},
    )
    made.run("superglue/rte/bert-base-cased/spt_sl", 11, outcomes(9), git={"commit": "c0ffee", "dirty": True})
    text = made.report()["tables/superglue.md"]
    assert row(text, "spt", "rte ours") == "diverged‡" and row(text, "spt_sl", "rte ours") == "3.25 (1 of 5)§"
    assert row(text, "spt_sl", "rte Δ") == "−71.12 (one seed: no tolerance)"
    assert "uncommitted changes" in text and "later split has none" in text


def test_what_came_of_other_numerics_is_marked(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=paper")
    cell = "superglue/rte/bert-base-cased/spt"
    made.run(cell, 11, outcomes(200), numerics=NUMERICS + 1)
    made.run("superglue/rte/bert-base-cased/spt_sl", 11, outcomes(200))
    made.run("superglue/wic/bert-base-cased/spt_sl", 11, outcomes(9), numerics=0)
    text = made.report()["tables/superglue.md"]
    assert row(text, "spt", "rte ours") == "72.20 (1 of 5)¶" and row(text, "spt_sl", "rte ours") == "72.20 (1 of 5)"
    assert row(text, "spt_sl", "wic ours").endswith("¶") and "another version of the numerics" in text
    with initialize_config_dir(str(CONF), version_base="1.3"):
        (result,) = collect([made.cells[cell]], Records(tmp_path / "records"), made.composer)
    assert f"  numerics  version {NUMERICS + 1}, now {NUMERICS}" in trace(result).splitlines()


def test_a_record_that_no_cell_uses_is_named(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=paper")
    folder = made.run("superglue/rte/bert-base-cased/spt", 11, outcomes(200))
    record = json.loads((folder / "record.json").read_text())
    record["config"]["method"]["prefix_length"] = 7
    (folder / "record.json").write_text(json.dumps(record))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        records = Records(tmp_path / "records")
        results = collect(made.cells.values(), records, made.composer)
    write(made, results, unused_runs(results, records))
    texts = {path.name: path.read_text() for path in tmp_path.glob("**/*.md")}
    assert f"## Records that no cell uses\n\n- `{folder.name}`\n" in texts["README.md"]


def test_learning_rates_and_the_split_that_selects_nothing(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=cpu")
    for method, best in (("spt", 0.02), ("prefix_tuning", 0.01)):
        cell = f"superglue/cb/minilm/{method}"
        for rate in made.cells[cell].learning_rates:
            made.run(cell, 11, outcomes(40 + (rate == best), 50), split="held_out", rate=rate)
        made.run(cell, 12, outcomes(45 if method == "spt" else 40, 50), split="held_out", rate=best)
    made.run("superglue/copa/minilm/spt", 11, outcomes(9, 10), split="held_out", rate=0.01)
    texts = made.report()
    text = texts["tables/superglue.md"]
    assert "| minilm | cb | spt | 0.02 (the highest) | 0.01: 80.00, 0.005: 80.00, 0.02: 82.00 |" in text
    assert "| minilm | copa | spt | not all tried | 0.01: 90.00, 0.005: not run, 0.02: not run |" in text
    assert "| minilm | cb | spt − prefix_tuning | held_out | 2 | +5.00 |" in text
    assert "cb ours" in text and "cb Δ" not in text and "Nothing is published for cb." in text
    assert "not run, but 1 of 3 learning rates tried: superglue, minilm: copa: spt" in " ".join(
        texts["README.md"].split()
    )


def test_what_the_runs_answer(demo, tmp_path):
    """A question has an answer as soon as the cells it compares have all their seeds, and not before.

    Two tables have the cells of the gate: they are one comparison.
    """
    made = Made(demo, tmp_path, "table=[prefix_length,sl_weight,train_size,ablation]", "profile=cpu")
    for seed, right in zip((11, 12, 13), (90, 91, 92), strict=True):
        made.run("prefix_length/conll04/minilm/ungated/20", seed, outcomes(right - 40, 100), split="test")
        made.run("prefix_length/conll04/minilm/spt/1", seed, outcomes(right - 2 * (seed - 12), 100), split="test")
        if seed < 13:
            made.run("prefix_length/conll04/minilm/spt/20", seed, outcomes(right, 100), split="test")
    assert answers(made)["Does the gate help, everything else equal?"].startswith("Not answered yet")
    made.run("prefix_length/conll04/minilm/spt/20", 13, outcomes(93, 100), split="test")
    found = answers(made)
    assert found.pop("Does the gate help, everything else equal?") == (
        "A difference is shown in 1 of 1 comparison (conll04 on minilm): spt is 40.33 points above ungated "
        "(prefix_length 20)."
    )
    lengths = found.pop("Does the prefix length matter?")
    assert lengths.startswith("No difference is shown in 1 comparison (conll04 on minilm): the means differ by −0.33")
    assert len(found) == 7 and all(answer.startswith("Not answered yet") for answer in found.values())
    assert "| minilm | conll04 | spt, method.prefix_length: 1 − 20 | test | 3 |" in made.report()["README.md"]


def test_the_trend_of_a_sweep_over_prefix_lengths(demo, tmp_path):
    """Once all lengths have all their runs, the slope of a method is tested instead of each length − the reference."""
    made = Made(demo, tmp_path, "table=[prefix_length]", "profile=cpu")
    for length, gained in ((1, 0), (5, 46), (10, 66), (20, 86), (50, 113), (100, 133)):  # 20 for each doubling
        for seed, noise in ((11, -2), (12, 0), (13, length % 3)):
            if (length, seed) != (100, 13):
                made.run(
                    f"prefix_length/conll04/minilm/spt/{length}", seed, outcomes(500 + gained + noise, 1000), "test"
                )
    question = "Does the prefix length matter?"
    assert answers(made)[question].endswith(
        "the largest shown: spt with prefix_length 1 is 8.63 points below prefix_length 20."
    )
    made.run("prefix_length/conll04/minilm/spt/100", 13, outcomes(633, 1000), "test")
    assert answers(made)[question] == (
        "A trend is shown in 1 of 1 sweep (conll04 on minilm): spt gains 2.00 points per doubling of prefix_length "
        "(1 to 100)."
    )
    text = " ".join(made.report()["README.md"].split())
    assert "Slopes over 3 seeds are +2.00 points per doubling." in text
    assert "| spt, per doubling of method.prefix_length, 1 to 100 | test | 3 | +2.00 |" in text


def test_one_seed_answers_nothing(demo, tmp_path):
    made = Made(demo, tmp_path, "table=[prefix_length]", "profile=cpu", "profiles.cpu.seeds=[11]")
    for row, right in (("ungated", 40), ("spt", 90)):
        made.run(f"prefix_length/conll04/minilm/{row}/20", 11, outcomes(right, 100), split="test")
    assert all(answer.startswith("Not answered yet") for answer in answers(made).values())


def verdict(tests):
    """The answer about the gate."""
    (found,) = [each for each in verdicts(tests) if each.question.startswith("Does the gate help")]
    return found


def test_a_difference_is_shown_if_both_tests_agree_on_its_direction():
    """Over examples outcomes are right or wrong, also where the metric is another: they may say the opposite."""
    paired = [SeedTest(3, -6.0, 1.0, 0.01, identical=False), ExampleTest("accuracy", 0.04, 0.01, 0.07, 0.01, False)]
    row = dict.fromkeys(PAIRED, "") | {"are_done": True, "seeds": paired[0], "examples": paired[1]}
    row |= {"first": "spt", "second": "ungated", "label": "spt − ungated", "sl_weights": (0.0,)}
    row |= {"metric": "matthews", "other_machine": False, "other_settings": set(), "at_chance": False}
    rows = [row | {"model": model, "folders": (model,)} for model in ("a", "b")]
    gate = verdict([DataFrame(rows)])
    assert (
        gate.answer
        == "No difference is shown in 2 comparisons ( on a; on b): the means differ by −6.00 to −6.00 points."
    )
    three, five = ({"folders": tuple(name + seed for name in "ab" for seed in seeds)} for seeds in ("123", "12345"))
    gate = verdict([DataFrame([row | three]), DataFrame([row | five, row | {"folders": ("a1", "c1")}])])
    assert "in 2 comparisons" in gate.answer  # the one of three seeds is part of that of five
    rows = [row | {"examples": paired[1]._replace(difference=-0.04)} for row in rows]
    gate = verdict([DataFrame(rows)])
    assert gate.answer.endswith("; the largest shown: ungated is 6.00 points above spt (a).")
    rows = [row | {"seeds": SeedTest(3, -2.0, 8e-15, None, identical=False)} for row in rows]
    gate = verdict([DataFrame(rows)])
    assert gate.answer.startswith("No difference is shown in 2 comparisons")
    assert "In 2 of them the difference is the same at every seed, which has no t-test." in gate.numbers
    assert "detectable" not in gate.answer


def test_a_question_takes_the_comparisons_that_are_about_it():
    """Runs of one's own: two methods at each value of a sweep, or one method with its first value as the reference."""
    seeds = SeedTest(3, 6.0, 1.0, 0.01, identical=False)
    examples = ExampleTest("accuracy", 0.06, 0.01, 0.09, 0.001, identical=False)
    row = dict.fromkeys(PAIRED, "") | {"are_done": True, "seeds": seeds, "examples": examples}
    row |= {"sl_weights": (0.0,), "other_machine": False, "other_settings": set(), "at_chance": False}
    row |= {"train_examples": None}
    places = [
        ("method.alpha", "spt_sl", "spt", "2"),
        ("method.sl_weight", "prefix_tuning", "spt_sl", "1"),
        ("task.train_examples", "spt", "spt", "100"),
    ]
    rows = [
        row | {"setting": setting, "first": first, "second": second, "value": value, "folders": (setting,)}
        for setting, first, second, value in places
    ]
    rows[0] |= {"other_settings": {"trainer.num_train_epochs"}, "at_chance": True}
    found = {verdict.question: verdict for verdict in verdicts([DataFrame(rows)])}
    answered = {question for question, verdict in found.items() if verdict.table is not None}
    assert answered == {"Does the selective loss help at its default weight?"}
    numbers = found["Does the selective loss help at its default weight?"].numbers
    assert numbers.endswith(
        "In 1 of them the two sides also differ in trainer.num_train_epochs. In 1 of them neither side is above both "
        "baselines (majority class, random classes)."
    )


def test_the_answer_about_the_selective_loss_names_its_weight(demo, tmp_path):
    made = Made(demo, tmp_path, "table=[ablation]", "profile=cpu")
    for seed, right in zip((11, 12, 13), (90, 91, 93), strict=True):
        made.run("ablation/conll04/minilm/spt", seed, outcomes(right, 100), split="test")
        made.run("ablation/conll04/minilm/spt_sl", seed, outcomes(seed + 30, 100), split="test")
    text = " ".join(made.report()["README.md"].split())
    assert "spt is 49.33 points above spt_sl.** Compared: spt_sl − spt, with λ = 0.0001 and 0, with all" in text


def answers(made: Made) -> dict[str, str]:
    """The answers in the report's README, by question."""
    text = made.report()["README.md"].partition("## What the runs answer")[2].partition("\n## ")[0]
    parts = [" ".join(part.split()) for part in text.split("\n### ")[1:]]
    return {part.partition(" **")[0]: part.split("**")[1] for part in parts}


def test_no_table_is_an_empty_frame(demo, tmp_path):
    """Rows and tasks without a run are named, a sweep has a table from two points on, models without a run unfold."""
    made = Made(demo, tmp_path, "table=[superglue,sl_weight]", "profile=[cpu,paper]")
    for seed in (11, 12, 13):
        made.run("superglue/cb/minilm/linear_probe", seed, outcomes(40, 50), split="held_out", rate=0.01)
    for rate in (0.003, 0.03):
        made.run("superglue/cb/minilm/linear_probe", 11, outcomes(30, 50), split="held_out", rate=rate)
    made.run("sl_weight/conll04/minilm/spt_sl/0.1", 11, outcomes(9, 10))
    texts = made.report()
    text = " ".join(texts["tables/superglue.md"].split())
    assert "was run: cb: fine_tuning, prefix_tuning, ungated, spt, spt_sl; copa, wsc: fine_tuning, linear_probe" in text
    assert "| row | cb ours |" in text and "| fine_tuning | not run |" not in text.partition("<details>")[0]
    opened, _, folded = text.partition("<details> <summary>Not run yet: bert-base-cased (profile paper)")
    assert "published only" in folded and "published only" not in opened.partition("## What selecting")[0]
    swept = texts["tables/sl_weight.md"]
    assert (
        "single point was run: conll04, stsb: spt_sl at 0.0" in swept
        and "| row | method.sl_weight | conll04" not in swept
    )
    assert not [name for name in texts if "conll04.minilm.sensitivity" in name]
    assert "Of profiles without any run" in texts["README.md"]
    made.run("sl_weight/conll04/minilm/spt_sl/1.0", 11, outcomes(9, 10))
    texts = made.report()
    assert "| spt_sl | 1.0 | 90.00 (1 of 3) |" in texts["tables/sl_weight.md"]
    assert "figures/sl_weight.conll04.minilm.sensitivity.svg" in texts


def test_profiles_of_the_same_cells_are_told_apart(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=[paper,published]")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        made.cells = {f"{cell.profile}/{cell.name}": cell for cell in cells(made.config)}
    for profile, right in (("paper", 60), ("published", 70)):
        for row in ("prefix_tuning", "spt_sl"):
            cell = f"{profile}/superglue/copa/bert-large-cased/{row}"
            made.run(cell, made.cells[cell].seeds[0], outcomes(right, 100))
    texts = made.report()
    for profile in ("paper", "published"):
        assert f"figures/superglue.copa.bert-large-cased.{profile}.curves.svg" in texts
        assert f">spt_sl, {profile}</th>" in texts["index.html"]
        assert f"| bert-large-cased | copa | spt_sl, {profile} |" in texts["tables/superglue.md"]


def test_scores_without_a_model_are_rows_of_their_table(demo, tmp_path):
    made = Made(demo, tmp_path, "table=superglue", "profile=cpu")
    known = {"validation": {"majority": 0.5, "random": 0.4567}, "held_out": {"majority": 0.625, "random": 0.5}}
    made.run("superglue/cb/minilm/linear_probe", 11, outcomes(40, 50), split="held_out", rate=0.01, baselines=known)
    for rate in (0.003, 0.03):
        made.run("superglue/cb/minilm/linear_probe", 11, outcomes(30, 50), split="held_out", rate=rate)
    best, _, further = made.report()["tables/superglue.md"].partition("### Held out")
    assert "| majority class | 50.00 |" in best and "| random classes | 45.67 |" in best
    assert "| majority class | 62.50 |" in further


def test_a_sweep_has_a_line_a_point_and_a_figure(demo, tmp_path):
    made = Made(demo, tmp_path, "table=sl_weight", "profile=paper")
    for weight, right in (("0.0", 190), ("0.01", 200)):
        for seed in (11, 12):
            made.run(f"sl_weight/rte/bert-base-cased/spt_sl/{weight}", seed, outcomes(right + seed))
    texts = made.report()
    text = texts["tables/sl_weight.md"]
    assert "| spt_sl | 0.0 | 72.74 ± 0.26 (2 of 5) | none | not run | n/a |" in text
    assert "spt_sl, method.sl_weight: 0.01 − 0.0" in text
    assert "figures/sl_weight.rte.bert-base-cased.sensitivity.svg" in texts
    # copa's published run has a weight of the sweep, rte's has none of it
    lines = csv.DictReader(texts["tables/sl_weight.csv"].splitlines())
    assert {(line["task"], line["value"]) for line in lines if line["published"]} == {("copa", "0.0001")}


def test_the_same_records_give_the_same_bytes_and_what_is_stale_goes(rte, texts):
    before = {path: path.read_bytes() for path in rte.folder.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in before}
    for name in ("tables/old.md", "figures/old.svg"):
        (rte.folder / name).write_text("stale")
    assert rte.report() == texts
    assert {path: path.read_bytes() for path in rte.folder.rglob("*") if path.is_file()} == before
    assert {path: path.stat().st_mtime_ns for path in before} == times  # nothing is written that would not change
    assert {name for name in texts if name.startswith("figures")} == {
        "figures/superglue.rte.bert-base-cased.curves.svg",
        "figures/superglue.cost.svg",
    }
    for name in (name for name in texts if name.endswith(".svg")):
        assert name in texts["README.md"] and "<dc:date>" not in texts[name]
        assert ">trainable parameters</text>" in texts[name] or ">epoch</text>" in texts[name]


def test_figures_go_with_the_runs(rte, texts, tmp_path):
    there = copy(rte)
    there.folder = tmp_path
    shutil.copytree(rte.folder / "figures", tmp_path / "figures")
    assert not any(name.startswith("figures") for name in there.report()) and not (tmp_path / "figures").exists()


def test_the_readme_says_what_was_run_and_what_not(texts):
    text = texts["README.md"]
    flat = " ".join(text.split())
    assert "| SuperGLUE | 1 of 60 | 9 | 11, 12, 13, 14, 44 | bert-base-cased | 1.0" in text
    assert "9 runs in all" in flat and "c0ffee000000 (9 runs)" in flat
    assert "`superglue/rte/bert-base-cased/fine_tuning`, seed 11: out of memory" in flat
    assert "3 of 5 seeds: superglue, bert-base-cased: rte: spt_sl" in flat
    assert "    python -m spt.report 'table=[superglue]' 'profile=[paper]' results_dir=...\n" in text


def test_a_cell_is_traced_to_its_commands(rte, tmp_path, command):
    shutil.copytree(rte.folder / "records", tmp_path / "records")
    here = (f"results_dir={tmp_path}", "profile=paper", "table=superglue")
    code, out = command(*here, "cell=superglue/rte/bert-base-cased/spt_sl")
    assert (
        code is None and "partly" in out and "72.20" in out and "c0ffee" in out and "0123" in out and "(clean)" in out
    )
    assert "python -m spt.train task=rte model=bert-base-cased method=spt_sl seed=12" in out
    assert "seed 14: not run" in out and "torch 2" in out
    assert not (tmp_path / "README.md").exists()
    assert "seed 11: failed: out of memory" in command(*here, "cell=superglue/rte/bert-base-cased/fine_tuning")[1]


@pytest.mark.slow
def test_a_report_of_fewer_tables_takes_none_away(tmp_path, command):
    here = (f"results_dir={tmp_path}", "profile=paper")
    assert command(*here, "table=[superglue,ner]")[0] is None
    code, _ = command(*here, "table=ner")
    assert "has the table superglue, which this report would leave out" in str(code)
    code, _ = command(f"results_dir={tmp_path}", "profile=cpu")
    assert "has the profile paper, which this report would leave out" in str(code)
    assert (tmp_path / "tables" / "superglue.md").exists()


def test_a_real_run_of_the_demo_is_found_and_called_a_demo(demo, tmp_path, command):
    shutil.copytree(demo, tmp_path / "records" / demo.name)
    here = (f"results_dir={tmp_path}", "profile=smoke", "table=superglue")
    code, out = command(*here)
    assert code is None and SMOKE in out and "1 of 2" in out and "1 partly" in out
    assert "its numbers say nothing about the methods" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "figures" / "superglue.demo_pair.demo.curves.svg").exists()
    score = json.loads((demo / "record.json").read_text())["metrics"]["best_dev"]
    text = (tmp_path / "tables" / "superglue.md").read_text()
    assert row(text, "fine_tuning", "demo_pair ours") == f"{100 * score:.2f} (1 of 2)" + "§" * ("§" in out)
    assert demo.name in command(*here, f"cell={SMOKE}")[1]


def test_a_whole_number_and_its_float_are_one_setting():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = [OmegaConf.to_container(compose("train", ["method=spt", *more]), resolve=True) for more in (
            [], ["method.sl_weight=0"], ["method.sl_weight=0.0"], ["method.sl_weight=1e-4"], ["trainer.bf16=true"]
        )]  # fmt: skip
    assert len({identity(config) for config in configs[:3]}) == 1 and len({identity(config) for config in configs}) == 3


def test_a_cell_of_rates_that_are_not_tried(tmp_path, command):
    code, out = command(f"results_dir={tmp_path}", "cell=superglue/cb/minilm/spt")
    assert code is None and "not run" in out and "learning rate not chosen yet" in out
    assert out.count("python -m spt.train") == 3 and "then seeds 12, 13" in out


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("superglue/cb/minilm/spt_ls", "after superglue/cb/minilm/ comes row: did you mean 'spt_sl'"),
        ("superglu/cb/minilm/spt", "table/task/model/row: did you mean 'superglue' or"),
        ("superglue/cb", "after superglue/cb/ comes model: known: minilm"),
        (
            "prefix_length/conll04/minilm/spt",
            "after prefix_length/conll04/minilm/spt/ comes the swept value: known: 1,",
        ),
        ("superglue/cb/minilm/spt/5", "did you mean 'superglue/cb/minilm/spt'?"),
    ],
)
def test_an_unknown_cell_ends_in_a_hint(cell, hint, tmp_path, command):
    code, _ = command(f"results_dir={tmp_path}", f"cell={cell}")
    assert f"unknown cell {cell!r} of profile cpu, paper: {hint}" in str(code)


@pytest.mark.slow
def test_the_committed_report_is_what_the_command_writes(tmp_path, command, monkeypatch):
    monkeypatch.setattr("spt.records.bootstrap.RESAMPLES", RESAMPLES)
    results = REPO / "results"
    there = tmp_path / "results"
    shutil.copytree(results / "records", there / "records") if (results / "records").exists() else there.mkdir()
    code, out = command(f"results_dir={there}")
    assert code is None and "files" in out
    kinds = (".md", ".tex", ".csv", ".svg", ".html")
    made = {
        path.relative_to(there): path for path in there.rglob("*") if "records" not in path.relative_to(there).parts
    }
    kept = {
        path.relative_to(results): path
        for part in ("tables", "figures")
        for path in [*(results / part).rglob("*"), results / "README.md", results / "index.html"]
    }
    assert {name for name, path in made.items() if path.is_file()} == {n for n, path in kept.items() if path.is_file()}
    for name, path in kept.items():
        if path.suffix in kinds:
            assert made[name].read_bytes() == path.read_bytes(), f"{name}: run python -m spt.report"


def test_the_frames_have_each_number_once(rte):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        results = collect(rte.cells.values(), Records(rte.folder / "records"), rte.composer)
    runs = runs_frame(results)
    cells = cells_frame(results, runs).set_index(["cell", "quantity"])
    assert not runs.duplicated(["profile", "cell", "seed", "learning_rate", "role"]).any() and cells.index.is_unique
    assert runs.status.value_counts().to_dict() == {"not run": 60 * 5 - 10, "finished": 9, "failed": 1}
    own = runs[(runs.cell == "superglue/rte/bert-base-cased/spt_sl") & runs.run.notna()]
    cell = cells.loc["superglue/rte/bert-base-cased/spt_sl", "best_dev"]
    assert list(own.seed) == [11, 12, 13] and cell["mean"] == pytest.approx(own.score_best_dev.mean())
    assert cell["std"] == pytest.approx(np.std(own.score_best_dev, ddof=1)) and cell.n == 3
    assert (cell["min"], cell["max"]) == (own.score_best_dev.min(), own.score_best_dev.max())
    assert cell.scores == dict(zip(own.seed, own.score_best_dev, strict=True))
    single = cells.loc["superglue/rte/bert-base-cased/prefix_tuning", "best_dev"]
    assert single.n == 1 and math.isnan(single["std"]) and single.marks == "†"


def test_markdown_shows_text_as_it_is():
    table = Table("50 %", [Column("a_b"), Column("x", "cb")], [["1 ± 2 #|", "{&}"]], ["x_1 | *y*"])
    text = markdown("t", [Section("s", tables=[table])])
    assert "| a_b | cb x |" in text and r"| 1 ± 2 #\| | {&} |" in text and r"- x_1 \| \*y\*" in text


def test_committed_latex_is_ascii_with_its_braces_closed():
    for path in (REPO / "results" / "tables").glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        assert (
            text.isascii()
            and "resizebox" not in text
            and len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
        )
        for name in ("table", "table*", "tabular"):
            assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")


COLUMNS = ("source", "model", "task", "method", "split", "metric", "value", "selection", "seed", "note")


def test_published_numbers_are_of_what_there_is():
    rows = read_numbers()
    assert len(rows) == 57 and all(tuple(row) == COLUMNS and None not in row.values() for row in rows)
    for row in rows:
        assert all((CONF / group / f"{row[group]}.yaml").is_file() for group in ("model", "task", "method")), row
        assert all(row[name].strip() for name in COLUMNS[:-2]), row
        assert row["metric"] in task_config(row["task"])["metrics"], row
        assert (row["split"], row["selection"]) in COMPARES_WITH, row
        assert -100 <= float(row["value"]) <= 100 and (row["seed"] == "" or row["seed"].isdecimal()), row
    keys = {tuple(row[name] for name in COLUMNS if name not in ("value", "note")) for row in rows}
    assert len(keys) == len(rows)
    assert len(published("rte", "bert-large-cased", "p_tuning_v2")) == 1


def test_curves_are_the_published_ones():
    assert len(list(CURVES.glob("*.csv"))) == 19
    for number in (row for row in read_numbers() if row["source"].startswith("authors") and row["split"] != "test"):
        points = curve(*(number[name] for name in ("task", "model", "method", "metric")))
        scores = [score for _, score in points]
        score = scores[-1] if number["selection"] == "last epoch" else max(scores)
        assert score == pytest.approx(float(number["value"]), abs=0.01)
    assert curve("rte", "demo", "spt_sl", "accuracy") == []


def test_the_docs_count_published_numbers_and_what_best_adds_to_last():
    numbers, text = read_numbers(), " ".join((REPO / "docs" / "reproduce.md").read_text().split())
    runs: dict[tuple, dict[str, float]] = {}
    for row in numbers:
        if row["split"] == "validation":
            run = tuple(row[name] for name in ("source", "task", "model", "method", "seed"))
            runs.setdefault(run, {})[COMPARES_WITH[row["split"], row["selection"]]] = float(row["value"])
    gaps = [run["best_dev"] - run["last_dev"] for run in runs.values() if len(run) == 2]
    assert f"published_results.csv` has {len(numbers)} numbers" in text
    assert f"over the {len(gaps)} released runs whose last epoch is known, best is {sum(gaps) / len(gaps):.2f}" in text


def test_runs_by_another_metric_have_no_curve_beside_them():
    assert (
        curve("rte", "bert-base-cased", "spt_sl", "accuracy") and curve("rte", "bert-base-cased", "spt_sl", "f1") == []
    )


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_curves_are_copied_as_they_are():
    for path in (SHARED / "spec" / "published_curves").glob("*.csv"):
        assert (CURVES / path.name).read_bytes() == path.read_bytes()
