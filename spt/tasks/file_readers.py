"""Rows out of files as people have them, and out of the hub. Every complaint names the file and the line.

A reader yields `(where, row)`: `where` says where the row stands, for the messages of whoever reads on.
"""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spt.errors import SptError
from spt.files import parsed
from spt.paths import local_path
from spt.tasks.entity_tags import check_tag, to_iob2

log = logging.getLogger(__name__)

Row = dict[str, Any]

Rows = Iterator[tuple[str, Row]]

csv.field_size_limit(2**30)  # a text may be a book


def find_file(data_dir: str, names: list[str], required: bool) -> Path | None:
    """The first of `names` in the folder `data_dir`; None where none is there and none is `required`."""
    folder = local_path(data_dir)
    if not folder.is_dir():
        raise SptError(f"no data folder {data_dir!r}: set task.data_dir to the folder that holds {names[0]}")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not required:
        return None
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise SptError(f"{data_dir!r} has no {' or '.join(names)} (it holds {there})")


def read_rows(path: Path, header: list[str] | None = None, leave_out_short: bool = False) -> Rows:
    """Rows of a .jsonl, .json, .csv or .tsv file; the options are read_tsv's."""
    readers = {".jsonl": read_jsonl, ".json": read_json, ".csv": read_csv, ".tsv": read_tsv}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise SptError(f"{path}: no reader for this kind of file: expected one of {', '.join(readers)}")
    return read_tsv(path, header, leave_out_short) if suffix == ".tsv" else readers[suffix](path)


def read_sentences(path: Path) -> Rows:
    """Sentences of a .jsonl or .json file, or of CoNLL columns under any other name."""
    return read_rows(path) if path.suffix.lower() in (".jsonl", ".json") else read_conll(path)


def read_jsonl(path: Path) -> Rows:
    """JSON objects, one a line; blank lines are passed over."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = parsed(line)
        except ValueError as error:
            raise SptError(f"{where}: not JSON ({error})") from error
        yield where, _object(row, where)


def read_json(path: Path) -> Rows:
    """The objects of a JSON list."""
    try:
        rows = parsed("".join(line for _, line in read_lines(path)))
    except ValueError as error:
        if isinstance(error, SptError):
            raise
        raise SptError(f"{path}: not JSON ({error}); one object a line goes into a .jsonl file") from error
    if not isinstance(rows, list):
        raise SptError(f"{path}: expected a JSON list of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, object {number}"
        yield where, _object(row, where)


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise SptError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def read_tsv(path: Path, header: list[str] | None = None, leave_out_short: bool = False) -> Rows:
    """Rows of tab-separated columns, without quoting: a quote is text. Blank lines are passed over.

    Args:
        path: the file.
        header: the names of the columns, where the first line does not hold them.
        leave_out_short: leave out rows with fewer fields than there are columns, and say how many, instead of refusing
            the file.
    """
    short: list[str] = []
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        line = line.removesuffix("\n").removesuffix("\r")
        if not line:
            continue
        fields = line.split("\t")
        if header is None:
            header = _header(fields, where)
        elif len(fields) == len(header):
            yield where, dict(zip(header, fields, strict=True))
        elif leave_out_short and len(fields) < len(header):
            short.append(where)
        else:
            raise SptError(
                f"{where}: expected {len(header)} fields separated by tabs, found {len(fields)} (quotes are text here, "
                "as in GLUE's files: a text with a tab or a line break goes into a .csv)"
            )
    if short:
        log.warning("%s: %d rows with too few fields left out, the first in %s", path, len(short), short[0])


def read_csv(path: Path) -> Rows:
    """Rows of comma-separated columns, quoted as RFC 4180 has it, below a line with their names."""
    reader = csv.reader((line for _, line in read_lines(path)), strict=True)
    header: list[str] | None = None
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise SptError(
                f"{where}: not CSV ({error}): is a quote left open, or not doubled inside quotes?"
            ) from error
        if not fields:
            continue
        if header is None:
            header = _header(fields, where)
        elif len(fields) == len(header):
            yield where, dict(zip(header, fields, strict=True))
        else:
            raise SptError(
                f"{where}: expected {len(header)} fields separated by commas, found {len(fields)}: "
                "a text with a comma stands in double quotes"
            )


def _header(fields: list[str], where: str) -> list[str]:
    if twice := [name for name, count in Counter(fields).items() if name and count > 1]:
        raise SptError(f"{where}: two columns are called {twice[0]!r}")
    return fields


def read_conll(path: Path) -> Rows:
    """Sentences as {"tokens", "tags"} from CoNLL columns: token first, tag last, separated by tabs or spaces.

    A blank line ends a sentence, -DOCSTART- lines are passed over, IOB1 tags become IOB2 ("B-" on every first word).
    """
    tokens: list[str] = []
    tags: list[str] = []
    start = columns = 0
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        line = line.rstrip("\r\n")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if tokens:
                yield f"{path}, line {start}", {"tokens": tokens, "tags": to_iob2(tags)}
                tokens, tags = [], []
            continue
        fields = line.split("\t") if "\t" in line else line.rstrip(" ").split(" ")
        fields = [field.strip() for field in fields]
        columns = columns or len(fields)
        if len(fields) < 2 or len(fields) != columns or not fields[0]:
            raise SptError(
                f"{where}: expected {max(columns, 2)} columns, token first and tag last, found {line.rstrip()!r}"
            )
        try:
            check_tag(fields[-1])
        except SptError as error:
            raise SptError(f"{where}, last column: {error}") from error
        if not tokens:
            start = number
        tokens.append(fields[0])
        tags.append(fields[-1])
    if tokens:
        yield f"{path}, line {start}", {"tokens": tokens, "tags": to_iob2(tags)}


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends. Only a line feed ends a line: any other separator may be part of a text."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from numbered(file, path)
    except OSError as error:
        raise SptError(f"cannot read {path}: {error.strerror}") from error


def numbered(lines: Iterable[str], where: object) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1, as far as they are text in UTF-8."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if "\0" in line:
                raise SptError(f"{where}, line {number}: a NUL byte: is this no text, or not UTF-8?")
            yield number, line
    except UnicodeDecodeError as error:
        raise SptError(f"{where}, line {number + 1} or soon after: not UTF-8 ({error.reason})") from error
