"""Predict with a trained adapter, JSON lines out: `python -m spt.predict run=<run or adapter> input=file.jsonl`."""

import json
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from omegaconf import DictConfig

from spt.command import command

if TYPE_CHECKING:
    from spt.predictor import Input
    from spt.tasks import Task


@command("predict", verbatim=("text", "text_pair"))
def main(config: DictConfig) -> None:
    """Write what the model says about each input, a line each, as it goes."""
    from spt.console import counted, errors, log, logged
    from spt.errors import SptError
    from spt.predictor import load

    if (config.text is None) == (config.input is None):
        raise SptError('give one of text="..." (with text_pair="...") and input=<file>')
    with logged(terminal=errors):
        predictor = load(config.run, base_model=config.base_model, revision=config.revision)
        names: deque[dict[str, Any]] = deque()

        def inputs() -> Iterator["Input"]:
            source = inputs_of(config, predictor.task)
            for number, item in enumerate(source, start=1):
                given = item if isinstance(item, dict) else {}
                for row in predictor.task.unfold(given) if given else [item]:
                    names.append({"input": number} | {key: given[key] for key in ("id", "idx") if key in given})
                    yield row

        with writing(config.output) as out:
            try:
                for said in counted(predictor.predict(inputs(), config.batch_size)):
                    out.write(json.dumps(names.popleft() | said, ensure_ascii=False) + "\n")
                    out.flush()
            except SptError as error:
                raise SptError(f"{config.input or 'text'}: {error}") from error
        if predictor.truncated:
            log.warning("%d inputs were cut to the longest that the model or the task takes", predictor.truncated)


def inputs_of(config: DictConfig, task: "Task") -> Iterator["Input"]:
    """The inputs that the command names: a text, a pair, the lines of standard input or of a file."""
    from spt.errors import SptError
    from spt.readers import local_path, read_lines

    if config.text is not None:
        yield config.text if config.text_pair is None else (config.text, config.text_pair)
        return
    path = local_path(config.input)
    if config.input == "-":
        lines = ((f"standard input, line {n}", line) for n, line in enumerate(sys.stdin, start=1))
    elif path.suffix == ".txt" and task.task_type != "token":
        lines = ((f"{path}, line {number}", line) for number, line in read_lines(path))
    else:
        yield from (row for _, row in task.file_rows(path))
        return
    for where, line in lines:
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise SptError(f"{where}: not JSON ({error})") from error
        elif line.strip():
            first, tab, second = line.rstrip("\r\n").partition("\t")
            yield (first, second) if tab else first


@contextmanager
def writing(output: str | None) -> Iterator[TextIO]:
    """A file that has its name only once it is whole, or standard output."""
    if output is None:
        yield sys.stdout
        return
    path = Path(output)
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf-8") as file:
        yield file
    partial.replace(path)


if __name__ == "__main__":
    main()
