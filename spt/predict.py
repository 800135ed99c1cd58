"""Predict with a trained adapter, JSON lines out: `python -m spt.predict run=<run or adapter> input=file.jsonl`."""

import io
import json
import logging
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from omegaconf import DictConfig

from spt.command import command
from spt.errors import SptError
from spt.files import output_file, parsed, written
from spt.paths import local_path

if TYPE_CHECKING:
    from spt.adapters.predictor import Input
    from spt.tasks.base import Task

log = logging.getLogger(__name__)


@command("predict", verbatim=("text", "text_pair"))
def main(config: DictConfig) -> None:
    """Write what the model says about each input, a line each, as it goes."""
    from spt.adapters.predictor import load
    from spt.console import counted, errors, logged

    check(config)
    with logged(terminal=errors):
        predictor = load(config.run, base_model=config.base_model, revision=config.revision)
        names: deque[dict[str, Any]] = deque()

        def inputs() -> Iterator["Input"]:
            number = 0
            for number, (where, item) in enumerate(inputs_of(config, predictor.task), start=1):
                try:
                    predictor.examples(item)
                    names.extend(named(number, item, predictor.task))
                except SptError as error:
                    raise SptError(f"{where}: {error}") from error
                yield item
            if number == 0:
                raise SptError(f"{'standard input' if config.input == '-' else config.input} holds no input")

        with writing(config.output) as out:
            bar = out is not sys.stdout or not out.isatty()
            for said in counted(predictor.predict(inputs(), config.batch_size), bar):
                out.write(json.dumps(names.popleft() | said, ensure_ascii=False) + "\n")
                out.flush()
        if predictor.truncated:
            log.warning("%d inputs were cut to the longest that the model or the task takes", predictor.truncated)


def check(config: DictConfig) -> None:
    """Complain of anything but one text, one pair or one input, before a model is loaded."""
    if (config.text is None) == (config.input is None) or (config.text is None and config.text_pair is not None):
        raise SptError('give one of text="..." (with text_pair="...") and input=<file>')
    for name in ("text", "text_pair"):
        if config[name] is not None and not config[name].strip():
            raise SptError(f"{name} is empty: there is nothing to predict")
        if config[name] is not None and config[name].encode(errors="replace").decode() != config[name]:
            raise SptError(f"{name} is not UTF-8")
    if config.input == "-" and sys.stdin is None:
        raise SptError("input=- reads standard input, which is closed")
    if config.input not in (None, "-") and not local_path(str(config.input)).is_file():
        raise SptError(f"no file {str(config.input)!r}: input names a file, or - for standard input")
    if config.output is not None:
        output, source = output_file(config.output), local_path(str(config.input))
        if output.exists() and source.exists() and output.samefile(source):
            raise SptError(f"input and output are the same file, {output}: have output name another one")


def inputs_of(config: DictConfig, task: "Task") -> Iterator[tuple[str, "Input"]]:
    """What the command names, and where it stands: a text, a pair, the lines of standard input or of a file."""
    from spt.tasks.file_readers import numbered, read_lines

    if config.text is not None:
        yield "text", config.text if config.text_pair is None else (config.text, config.text_pair)
        return
    path = local_path(str(config.input))
    if config.input == "-":
        where = "standard input"
        lines = numbered(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="\n"), where)
    elif path.suffix.lower() == ".txt" and task.task_type != "token":
        where = str(path)
        lines = read_lines(path)
    else:
        yield from task.file_rows(path)
        return
    blank = 0
    for number, line in lines:
        text = line.rstrip("\r\n")
        here = f"{where}, line {number}"
        texts = text.split("\t") if task.task_type != "token" else [text]
        if text.startswith("{") and config.input == "-":
            try:
                yield here, parsed(text)
            except ValueError as error:
                raise SptError(f"{here}: not JSON ({error})") from error
        elif not text.strip():
            blank += 1
        elif len(texts) > 2:
            raise SptError(f"{here}: expected a text, or two with a tab between them, found {len(texts)}")
        else:
            yield here, text if len(texts) == 1 else (texts[0], texts[1])
    if blank:
        log.warning("%s: %d blank lines passed over", where, blank)


def named(number: int, item: "Input", task: "Task") -> list[dict[str, Any]]:
    """What tells the predictions of an input from others: its number, and the ids that it has."""
    rows = task.flat_rows(item) if isinstance(item, dict) else [{}]
    names = [{"input": number} | {key: row[key] for key in ("id", "idx") if key in row} for row in rows]
    try:
        json.dumps(names, allow_nan=False)
    except ValueError as error:
        raise SptError("an id is no number that JSON has: NaN and Infinity are none") from error
    return names


@contextmanager
def writing(output: str | None) -> Iterator[TextIO]:
    """A file that has its name only once it is whole, or standard output."""
    if output is None:
        yield sys.stdout
        return
    path = output_file(output)
    partial = path.with_name(f"{path.name}.partial")
    with written(path, "or have output name another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            try:
                yield file
            except SptError as error:
                raise SptError(f"{error} (what was predicted before it is in {partial})") from error
        partial.replace(path)


if __name__ == "__main__":
    main()
