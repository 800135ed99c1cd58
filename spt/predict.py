"""Predict with a trained adapter, JSON lines out: `python -m spt.predict run=<run or adapter> input=file.jsonl`."""

import csv
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from omegaconf import DictConfig

from spt.command import command
from spt.console import log, refuse_closed_output, write_data
from spt.errors import SptError, UnusableRow, check_count
from spt.files import output_file, parsed, written
from spt.hydra_targets import load_options
from spt.paths import local_path

if TYPE_CHECKING:
    from spt.adapters.predictor import Input, Predictor
    from spt.tasks.task import Task

Item = TypeVar("Item")


@command("predict")
def main(config: DictConfig) -> None:
    """Write a line of JSON for each prediction, batch by batch."""
    from spt.adapters.predictor import AHEAD, load
    from spt.console import counted, errors, logged

    check(config)
    with logged(terminal=errors):
        predictor = load(config.run, **load_options(config))
        ids: deque[dict[str, Any]] = deque()
        inputs = checked_inputs(config, predictor, ids)
        settings = {"batch_size": config.batch_size, "top_k": config.top_k}
        if config.input == "-":
            batches = as_they_come(inputs, config.batch_size)
            answers = (predictor.stream(batch, **settings) for batch in batches)
            predictions: Iterable[dict[str, Any]] = chain.from_iterable(answers)
        else:
            predictions = predictor.stream(inputs, ahead=AHEAD, **settings)
        with writing(config.output, predictor.labels) as write:
            for prediction in counted(predictions, config.output is not None or not sys.stdout.isatty()):
                write(ids.popleft() | prediction)
        if predictor.truncated:
            log.warning("%d inputs were truncated to the maximum length of the model or the task", predictor.truncated)


def check(config: DictConfig) -> None:
    """Refuse anything but one text, one pair or one input, before a model is loaded."""
    if (config.text is None) == (config.input is None) or (config.text is None and config.text_pair is not None):
        raise SptError('give one of text="..." (with text_pair="...") and input=<file>')
    check_texts(config, "predict")
    check_count("batch_size", config.batch_size)
    if config.output is None:
        refuse_closed_output()
    if config.input == "-" and sys.stdin is None:
        raise SptError("input=- reads standard input, which is closed")
    if config.input not in (None, "-") and not local_path(str(config.input)).is_file():
        raise SptError(f"no file {str(config.input)!r}: input names a file, or - for standard input")
    if config.output is not None:
        if str(config.output).lower().endswith((".json", ".tsv", ".parquet")):
            raise SptError(f"output={config.output} is written as lines of JSON: name it .jsonl, or .csv for CSV")
        output, source = output_file(config.output), local_path(str(config.input))
        if output.exists() and source.exists() and output.samefile(source):
            raise SptError(f"input and output are the same file, {output}: give output another name")


def check_texts(config: DictConfig, purpose: str) -> None:
    """Refuse a text, or the second one of a pair, that is empty."""
    for name in ("text", "text_pair"):
        if config[name] is not None and not config[name].strip():
            raise SptError(f"{name} is empty: there is nothing to {purpose}")


def checked_inputs(config: DictConfig, predictor: "Predictor", ids: deque[dict[str, Any]]) -> Iterator["Input"]:
    """The inputs that the command names, checked one by one; their ids are added to `ids` for their predictions.

    Rows of a file that cannot be examples of the task are left out, as in training, with a warning at the end.
    """
    count, unusable = 0, []
    for number, (where, item) in enumerate(inputs_of(config, predictor.task), start=1):
        try:
            for row in predictor.task.flat_rows(item) if isinstance(item, dict) else [item]:
                count += 1
                try:
                    predictor.examples(row)
                except UnusableRow as error:
                    if config.input in (None, "-"):
                        raise
                    unusable.append(f"{where}: {error}")
                    continue
                ids.append(id_of(number, row))
                yield row
        except SptError as error:
            raise SptError(f"{where}: {error}") from error
    if unusable:
        share = f"{len(unusable)} of {count} inputs"
        log.warning("%s cannot be used and are left out, the first in %s", share, unusable[0])
    if count == 0:
        raise SptError(f"{'standard input' if config.input == '-' else config.input} holds no input")


def inputs_of(config: DictConfig, task: "Task") -> Iterator[tuple[str, "Input"]]:
    """The inputs and where each comes from: the text or pair, or the lines of standard input or of a file."""
    from spt.tasks.conll_columns import read_words
    from spt.tasks.text_lines import numbered, read_lines
    from spt.tasks.token_classification import TokenTask

    is_tagged = isinstance(task, TokenTask)
    if config.text is not None:
        yield "text", input_of_text(config, is_tagged)
        return
    path = local_path(str(config.input))
    if config.input == "-":
        source = "standard input"
        # A buffer of its own: at its end the interpreter locks that of sys.stdin, which a waiting thread would hold.
        file = open(sys.stdin.fileno(), encoding="utf-8-sig", newline="\n", closefd=False)  # noqa: SIM115
        lines = numbered(file, source)
    elif (
        path.suffix.lower() == ".txt"
        and (shape := task.shape_of(path) if isinstance(task, TokenTask) else "texts") != "columns"
    ):
        if is_tagged:
            log.info("%s: read as %s, one a line", path, shape)
        if shape == "words":
            yield from read_words(path)
            return
        source, lines = str(path), read_lines(path)
    else:
        yield from task.file_rows(path)
        return
    blank = 0
    for number, line in lines:
        text, where = line.rstrip("\r\n"), f"{source}, line {number}"
        if not text.strip():
            blank += 1
        else:
            yield where, input_of_line(text, where, is_tagged, may_be_row=config.input == "-")
    if blank:
        log.warning("%s: %d blank lines skipped", source, blank)


def input_of_text(config: DictConfig, is_tagged: bool) -> "Input":
    """The input that `text` is, with `text_pair` a pair of texts."""
    if config.text_pair is not None:
        return config.text, config.text_pair
    return input_of_line(config.text, "text", is_tagged, may_be_row=True)


def input_of_line(line: str, where: str, is_tagged: bool, may_be_row: bool) -> "Input":
    """The input in a line: a JSON object, if it may be a row, else a text, or two with a tab between them.

    Args:
        line: without its end.
        where: what error messages call it.
        is_tagged: whether the task tags words, whose text may have a tab.
        may_be_row: whether a line that begins with a brace is JSON.
    """
    if line.lstrip().startswith("{") and may_be_row:
        try:
            return parsed(line)
        except ValueError as error:
            raise SptError(f"{where}: not JSON ({error})") from error
    texts = [line] if is_tagged else line.split("\t")
    if len(texts) > 2:
        raise SptError(f"{where}: expected a text, or two with a tab between them, found {len(texts)}")
    return line if len(texts) == 1 else (texts[0], texts[1])


def id_of(number: int, item: "Input") -> dict[str, Any]:
    """What names an input in its prediction: its number, and the `id` and `idx` of its row."""
    row = item if isinstance(item, dict) else {}
    names = {"input": number} | {key: row[key] for key in ("id", "idx") if key in row}
    try:
        json.dumps(names, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SptError(f"id and idx must be values that JSON has: {error}") from error
    return names


def as_they_come(inputs: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Lists of the inputs that have arrived, at most `most`, so that no answer waits for later inputs.

    The inputs are read in a thread of their own.
    """
    ready: Queue[Item | BaseException | None] = Queue(2 * most)

    def read() -> None:
        end = None
        try:
            for item in inputs:
                ready.put(item)
        except BaseException as error:
            end = error
        ready.put(end)

    Thread(target=read, daemon=True).start()
    end: BaseException | None = None
    is_open = True
    while is_open:
        batch: list[Item] = []
        while is_open and len(batch) < most and (not batch or not ready.empty()):
            item = ready.get()
            if item is None or isinstance(item, BaseException):
                is_open, end = False, item
            else:
                batch.append(item)
        if batch:
            yield batch
    if end is not None:
        raise end


def line_of(prediction: dict[str, Any]) -> str:
    """A prediction as a line of JSON."""
    return json.dumps(prediction, ensure_ascii=False) + "\n"


def csv_writer(file: TextIO, labels: list[str]) -> Callable[[dict[str, Any]], Any]:
    """What writes predictions as CSV: a column for each class's probability; other lists and dictionaries as JSON."""
    writer: csv.DictWriter | None = None

    def write(fields: dict[str, Any]) -> None:
        nonlocal writer
        cells = dict.fromkeys(("input", "id", "idx")) | {"truncated": False} | fields
        probabilities = cells.get("probabilities")
        if isinstance(probabilities, dict) and probabilities.keys() <= {*labels}:
            del cells["probabilities"]
            cells |= {f"probability of {label}": probabilities.get(label) for label in labels}
        if writer is None:
            writer = csv.DictWriter(file, list(cells))
            writer.writeheader()
        is_nested = {name: isinstance(value, dict | list) for name, value in cells.items()}
        writer.writerow({n: json.dumps(v, ensure_ascii=False) if is_nested[n] else v for n, v in cells.items()})

    return write


@contextmanager
def writing(output: str | None, labels: list[str]) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """What writes a prediction to standard output, or to a file that gets its name once it is complete.

    A file that ends in .csv is CSV, others are lines of JSON.
    """
    if output is None:
        yield lambda fields: write_data(line_of(fields))
        return
    path = output_file(output)
    partial = path.with_name(f"{path.name}.partial")
    with written(path, "or have output name another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", buffering=1, newline="") as file:
            try:
                is_csv = path.suffix.lower() == ".csv"
                yield csv_writer(file, labels) if is_csv else lambda fields: file.write(line_of(fields))
            except SptError as error:
                raise SptError(f"{error} (the predictions before it are in {partial})") from error
        partial.replace(path)


if __name__ == "__main__":
    main()
