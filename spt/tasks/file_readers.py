"""Rows of .jsonl, .json, .csv, .tsv and CoNLL files.

Each reader yields (where, row): `where` is the file and line for error messages, `row` a dict of fields.
"""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
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
    """The first of `names` that exists in the folder `data_dir`, or None if none does and none is `required`."""
    if not names:
        return None
    folder = local_path(data_dir)
    if not folder.is_dir():
        raise SptError(f"no data folder {data_dir!r}: set task.data_dir to the folder that holds {names[0]}")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if not required:
        return None
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise SptError(f"{data_dir!r} has no {' or '.join(names)} (it holds {present})")


def read_rows(path: Path, header: list[str] | None = None, leave_out_short: bool = False) -> Rows:
    """Rows of a .jsonl, .json, .csv or .tsv file; the options are read_tsv's."""
    readers = {".jsonl": read_jsonl, ".json": read_json, ".csv": read_csv, ".tsv": read_tsv}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise SptError(f"{path}: no reader for this kind of file: expected one of {', '.join(readers)}")
    return read_tsv(path, header, leave_out_short) if suffix == ".tsv" else readers[suffix](path)


def read_sentences(path: Path) -> Rows:
    """Sentences of a .jsonl or .json file, or of CoNLL columns in a file with any other suffix."""
    return read_rows(path) if path.suffix.lower() in (".jsonl", ".json") else read_conll(path)


def read_jsonl(path: Path) -> Rows:
    """JSON objects, one on each line; blank lines are skipped."""
    for number, line in read_lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = parsed(line)
            except ValueError as error:
                raise SptError(f"{where}: not JSON ({error})") from error
            yield where, _object(row, where)


def read_json(path: Path) -> Rows:
    """The objects of a JSON list."""
    text = "".join(line for _, line in read_lines(path))
    try:
        rows = parsed(text)
    except ValueError as error:
        raise SptError(f"{path}: not JSON ({error}); a file with one object a line must be named .jsonl") from error
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
    """Rows of tab-separated columns without quoting: a quote is text. Blank lines are skipped.

    Args:
        path: the file.
        header: the names of the columns; None: the first line has them.
        leave_out_short: skip and count rows with too few fields, instead of refusing the file.
    """
    lines = (
        (f"{path}, line {number}", line.removesuffix("\n").removesuffix("\r")) for number, line in read_lines(path)
    )
    hint = "separated by tabs (quotes are text, as in GLUE's files: put a text with a tab or a line break into a .csv)"
    return _table(((where, line.split("\t")) for where, line in lines if line), hint, header, leave_out_short)


def read_csv(path: Path) -> Rows:
    """Rows of comma-separated columns, quoted as in RFC 4180; the first line names the columns."""
    return _table(_csv_lines(path), "separated by commas (put a text with a comma in double quotes)")


def _csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader((line for _, line in read_lines(path)), strict=True)
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise SptError(
                f"{where}: not CSV ({error}): is a quote left open, or a quote inside not doubled?"
            ) from error
        if fields:
            yield where, fields


def _table(
    lines: Iterator[tuple[str, list[str]]], hint: str, header: list[str] | None = None, leave_out_short: bool = False
) -> Rows:
    short: list[str] = []
    for where, fields in lines:
        if header is None:
            header = fields
            if twice := [name for name, count in Counter(fields).items() if name and count > 1]:
                raise SptError(f"{where}: two columns are called {twice[0]!r}")
        elif len(fields) == len(header):
            yield where, dict(zip(header, fields, strict=True))
        elif leave_out_short and len(fields) < len(header):
            short.append(where)
        else:
            raise SptError(f"{where}: expected {len(header)} fields, found {len(fields)}, {hint}")
    if short:
        log.warning("%d rows with too few fields are left out, the first in %s", len(short), short[0])


def read_conll(path: Path) -> Rows:
    """Sentences as {"tokens", "tags"} of CoNLL columns: token first, tag last, separated by tabs or spaces.

    A blank line ends a sentence, -DOCSTART- lines are skipped, IOB1 tags become IOB2.
    """
    tokens: list[str] = []
    tags: list[str] = []
    start = columns = 0
    for number, line in chain(read_lines(path), [(0, "")]):
        where = f"{path}, line {number}"
        line = line.rstrip("\r\n")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if tokens:
                yield f"{path}, line {start}", {"tokens": tokens, "tags": to_iob2(tags)}
                tokens, tags = [], []
            continue
        fields = [
            field.strip() for field in (line if "\t" in line else line.rstrip(" ").replace(" ", "\t")).split("\t")
        ]
        columns = columns or len(fields)
        if len(fields) < 2 or len(fields) != columns or not fields[0]:
            raise SptError(f"{where}: expected {max(columns, 2)} columns, token first and tag last, found {line!r}")
        try:
            check_tag(fields[-1])
        except SptError as error:
            raise SptError(f"{where}, last column: {error}") from error
        start = start if tokens else number
        tokens.append(fields[0])
        tags.append(fields[-1])


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends. Only a line feed ends a line: other separators may be part of a text."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from numbered(file, path)
    except OSError as error:
        raise SptError(f"cannot read {path}: {error.strerror}") from error


def numbered(lines: Iterable[str], source: object) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. Raises an SptError that names `source` and line if one is not UTF-8 text."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if "\0" in line:
                raise SptError(f"{source}, line {number}: a NUL byte: not text, or not UTF-8")
            yield number, line
    except UnicodeDecodeError as error:
        raise SptError(f"{source}, line {number + 1} or soon after: not UTF-8 ({error.reason})") from error
