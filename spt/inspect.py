"""See what the prefixes of an adapter learned: `python -m spt.inspect run=<run or adapter> [split=test|text="..."]`.

Several runs, `run=[a,b,c]`, are compared. The function `spt.inspect` is in `spt.insight.inspect_adapter`.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from spt.command import command
from spt.console import console, log, logged
from spt.errors import SptError, check_flag
from spt.files import write_atomically, written
from spt.hydra_targets import instantiate, load_options
from spt.paths import local_path
from spt.records.schema import output_folder
from spt.terminal_table import print_table

if TYPE_CHECKING:
    from spt.insight.result import Insight

FOLDER = "insight"
VALIDATION = "validation"  # the split, if none is named


@command("inspect")
def main(config: DictConfig) -> None:
    """Print how a run's prefixes look and act on a split or a text, and write all measures, figures and a page."""
    from spt.insight.result_files import RESULT
    from spt.insight.terminal_tables import tables

    check_flag("interventions", config.interventions)
    check_text(config)
    folder = result_folder(config.run, config.output)
    with logged():
        if config.text is not None:
            look_at_text(config, folder)
            return
        if isinstance(config.run, ListConfig):
            compare(config, folder)
            return
        insight = inspected(config, config.run, folder)
        for table in tables(insight):
            print_table(table)
        log.info("%s %s (%d examples): %s", insight.task, insight.split, insight.examples, folder / RESULT)


def inspected(
    config: DictConfig, run: str, folder: Path, remedy: str = "or have output name another folder"
) -> "Insight":
    """Inspect one run, and write what is found to a folder; the remedy is for one that cannot be written."""
    from spt.adapters.predictor import load
    from spt.evaluate import examples_for
    from spt.insight.inspect_adapter import inspect
    from spt.insight.result_files import RESULT, write_insight
    from spt.tasks.task import data_fingerprint

    split = config.split or VALIDATION
    predictor = load(run, **load_options(config))
    examples = examples_for(predictor, split, config.data_dir, config.file)
    name = str(config.file or split)
    own_data = predictor.adapter.training.data.get(split)
    if config.file is None and data_fingerprint({split: examples}) != own_data:
        if config.data_dir is not None:
            name = f"{split} of {config.data_dir}"
        elif own_data is not None:
            name = f"{split} of other data than the run's"
    insight = inspect(
        predictor,
        examples,
        interventions=config.interventions,
        batch_size=config.batch_size,
        seed=config.seed,
        split=name,
        show_progress=True,
    )
    with written(folder / RESULT, remedy):
        write_insight(folder, insight, predictor.adapter.folder.parent)
    instantiate(config.logger).insight(predictor.adapter.folder.parent, folder)
    return insight


def compare(config: DictConfig, folder: Path) -> None:
    """Print the runs of a list side by side, and write their measures to a folder; inspect those that need it.

    A run needs it if it has no insight.json, or one of another split or of an adapter it no longer has, or if
    `data_dir` or `file` is given. Its results go to its own folder.
    """
    from spt.adapters.format import read_adapter
    from spt.adapters.hub import fetch
    from spt.insight.compare_runs import comparison_frame, comparison_tables, group_names
    from spt.insight.result import Insight
    from spt.insight.result_files import COMPARISON, RESULT, write_comparison

    if len(config.run) == 0 or len(config.run) > len({*config.run}):
        raise SptError("run=[...] must name runs, each once")
    runs = []
    for run in map(str, config.run):
        adapter = read_adapter(fetch(run))
        place = result_folder(run, None)
        if not local_path(run).is_dir():
            place = place / run.replace("/", ".")
        insight = None
        if (path := place / RESULT).is_file():
            try:
                insight = Insight.from_json(path.read_text(encoding="utf-8"))
            except SptError as error:
                log.warning("%s is %s", path, error)
        wanted = (adapter.description.sha256, config.split or VALIDATION)
        has_own_data = config.data_dir is not None or config.file is not None
        if has_own_data or insight is None or (insight.adapter_sha256, insight.split) != wanted:
            insight = inspected(config, run, place, "or copy the run to a folder that can be written")
            log.info("inspected: %s", place / RESULT)
        runs.append((run, adapter.run, insight))
    frame = comparison_frame(runs)
    for table in comparison_tables(frame):
        print_table(table)
        print()
    by_name = {name: insight for name, _, insight in runs}
    compared = {label: by_name[name] for name, label in group_names(frame).items()}
    path = folder / f"{COMPARISON}.csv"
    with written(path, "or have output name another folder"):
        write_comparison(folder, frame.to_csv(index=False, lineterminator="\n"), compared)
    log.info("%d runs: %s", len(runs), path)


def result_folder(run: str | ListConfig, output: str | None) -> Path:
    """Where the results go: `output`, else `insight` in the run's folder, beside an adapter, or for the hub's here.

    The comparison of several runs goes to `output`, else to `insight` here.
    """
    if output is None and isinstance(run, ListConfig):
        return Path(FOLDER)
    folder = output_folder(output, str(run), FOLDER)
    if folder.is_file():
        raise SptError(f"output must name a folder: {folder} is a file")
    return folder


def check_text(config: DictConfig) -> None:
    """Refuse anything but one text or one pair, and a text beside a split, before a model is loaded."""
    from spt.predict import check_texts

    others = [name for name in ("split", "file", "data_dir") if config[name] is not None]
    if config.text is None and config.text_pair is not None:
        raise SptError('text_pair is the second text of a pair: give text="..." as well')
    if config.text is not None and others:
        raise SptError(f"give one of text and {others[0]}: the page is of a single text, the measures are of a split")
    if config.text is not None and isinstance(config.run, ListConfig):
        raise SptError("a text is looked at with one run, not with a list")
    check_texts(config, "look at")
    for name in ("text", "text_pair"):
        if config[name] is not None and len(lines := config[name].strip().splitlines()) > 1:
            raise SptError(f"{name} has {len(lines)} lines: give one text, or a row as JSON, where \\n is a line break")


def look_at_text(config: DictConfig, folder: Path) -> None:
    """Print what the tokens of a text do with the slots, and write a page of it."""
    from spt.adapters.predictor import load
    from spt.insight.pages import text_page
    from spt.insight.result_files import TEXT_PAGE
    from spt.insight.text_attention import text_attention
    from spt.insight.text_tables import text_tables
    from spt.predict import input_of_text

    predictor = load(config.run, **load_options(config))
    attention = text_attention(predictor, input_of_text(config, predictor.task.task_type == "token"))
    for table in text_tables(attention):
        console.print(table)
    console.print(json.dumps(attention.prediction, ensure_ascii=False), markup=False)
    if attention.truncated:
        log.warning("the input was truncated to the maximum length of the model or the task")
    with written(folder / TEXT_PAGE, "or have output name another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / TEXT_PAGE, text_page(attention))
    log.info("%s, the text token by token: %s", predictor.task.name, folder / TEXT_PAGE)


if __name__ == "__main__":
    main()
