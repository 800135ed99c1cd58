"""Rows of .csv and .tsv files, the likely cause in the message where one does not fit."""

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from spt.errors import SptError
from spt.tasks.text_lines import Rows, read_lines

log = logging.getLogger(__name__)

Lines = Iterator[tuple[str, list[str]]]  # the fields of each line, with its file and number

QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)  # a field as CSV quotes it

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}

QUOTES_ARE_TEXT = "if they only enclose texts, set task.quoting=csv, or save the file as .csv"

csv.field_size_limit(2**30)  # a text may be a book


def read_tsv(
    path: Path, header: list[str] | None = None, leave_out_short: bool = False, quoting: str | None = None
) -> Rows:
    """Rows of tab-separated columns, by default without quoting: a quote is text. Blank lines are skipped.

    Args:
        path: the file.
        header: the names of the columns of a file whose first line has none of them; None: the first line has them.
        leave_out_short: skip and count rows with too few fields, instead of refusing the file.
        quoting: "csv": quotes are those of RFC 4180.
    """
    if quoting == "csv":
        return _table(_csv_lines(path, "\t"), "\t", "tabs", header, leave_out_short)
    lines = (
        (f"{path}, line {number}", line.removesuffix("\n").removesuffix("\r")) for number, line in read_lines(path)
    )
    hint = "tabs (quotes are text, as in GLUE's files: for a text with a tab or a line break, set task.quoting=csv)"
    return _table(((where, line.split("\t")) for where, line in lines if line), "\t", hint, header, leave_out_short)


def read_csv(path: Path) -> Rows:
    """Rows of comma-separated columns, quoted as in RFC 4180; the first line names the columns."""
    return _table(_csv_lines(path, ","), ",", "commas (put a text with a comma in double quotes)")


def _csv_lines(path: Path, separator: str) -> Lines:
    record: list[str] = []  # the lines of the row that is read

    def lines() -> Iterator[str]:
        for _, line in read_lines(path):
            record.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=separator, strict=True)
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        record.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cause = "is a quote left open, or a quote inside not doubled?"
            other = re.match(r'"[^"]*"([;\t|,])', record[0])
            if other is not None and other[1] != separator:
                cause = f"{SEPARATORS[other[1]]} separate the columns: save it with {SEPARATORS[separator]}"
            elif any('\\"' in line for line in record):
                cause = 'quotes inside a text are doubled, "", and not escaped by a backslash'
            elif any(f'{separator} "' in line for line in record):
                cause = "is there a blank before a quote?"
            raise SptError(f"{where}: not CSV ({error}): {cause}") from error
        if fields:
            yield where, fields


def _table(
    lines: Lines, separator: str, hint: str, header: list[str] | None = None, leave_out_short: bool = False
) -> Rows:
    short: list[str] = []
    for number, (where, fields) in enumerate(lines):
        if header is None or (number == 0 and not {*header}.isdisjoint(fields)):
            header = fields
            _check_header(where, header, separator)
        elif len(fields) == len(header):
            yield where, dict(zip(header, fields, strict=True))
        elif leave_out_short and len(fields) < len(header):
            short.append(where)
        else:
            raise SptError(f"{where}: expected {len(header)} fields, found {len(fields)}, separated by {hint}")
    if short:
        log.warning("%d rows with too few fields are left out, the first in %s", len(short), short[0])


def check_distinct(where: object, names: Iterable[str]) -> None:
    """Refuse a table in which two columns have one name."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SptError(f"{where}: two columns are called {twice[0]!r}")


def _check_header(where: str, header: list[str], separator: str) -> None:
    check_distinct(where, filter(None, header))
    for other in SEPARATORS:
        if len(header) == 1 and other in header[0]:
            suffix = {",": ".csv", "\t": ".tsv"}
            remedy = f"name it {suffix[other]}" if other in suffix else f"save it with {SEPARATORS[separator]}"
            raise SptError(f"{where}: {SEPARATORS[other]} separate the columns, {header[0]!r}: {remedy}")
    if all(len(name) > 2 and QUOTED.fullmatch(name) for name in header):
        raise SptError(f"{where}: the columns have quotes around their names, {header[0]}: {QUOTES_ARE_TEXT}")


def warn_of_quotes(rows: Rows) -> Rows:
    """The rows of a file whose quotes are read as text, with a warning at the first text that CSV would have quoted."""
    is_told = False
    for where, row in rows:
        values = (each for value in row.values() for each in (value if isinstance(value, list) else [value]))
        texts = (value for value in values if isinstance(value, str))
        # Doubled quotes inside are a sure sign: a text in quotes may be a citation.
        if not is_told and (quoted := next((t for t in texts if '""' in t[1:-1] and QUOTED.fullmatch(t)), None)):
            log.warning("%s: the quotes of %s are read as text: %s", where, quoted, QUOTES_ARE_TEXT)
            is_told = True
        yield where, row
