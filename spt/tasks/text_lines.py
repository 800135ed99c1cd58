"""Lines of text files and streams, with their numbers, and the likely cause where they are no UTF-8 text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spt.errors import SptError

Row = dict[str, Any]

Rows = Iterator[tuple[str, Row]]  # with the file and line of each row, for error messages

BLANKS = " \t\r\n\v\f"  # the ASCII ones: others, such as the no-break space, are part of a text

KINDS = {  # by the first bytes of a file
    b"\xff\xfe": "it is UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8",
    b"\x1f\x8b": "it is compressed by gzip: unpack it",
    b"PK\x03\x04": "it is a .zip or .xlsx file: export text, such as .csv",
    b"PAR1": "it is a parquet file: name it .parquet",
}

LATIN = "if it is Latin-1 or Windows-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8"


def read_lines(path: Path, newline: str | None = "\n") -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends. Only a line feed ends a line: other separators may be part of a text."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield from numbered(file, path)
    except OSError as error:
        raise SptError(f"cannot read {path}: {error.strerror}") from error


def numbered(lines: Iterable[str], source: object) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. Raises an SptError that names `source` and line if one is not UTF-8 text."""
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if "\0" in line:
                raise SptError(f"{source}, line {number}: a NUL byte: not text, or UTF-16 instead of UTF-8")
            if number == 1 and "\r" in line.rstrip("\r\n") and not line.endswith("\n"):
                raise SptError(
                    f"{source}, line 1: lines end in a carriage return alone, as on old Macs: convert them to line "
                    r"feeds, as tr '\r' '\n' does"
                )
            yield number, line
    except UnicodeDecodeError as error:
        start = error.object[:4] if number == 0 else b""
        cause = next((cause for magic, cause in KINDS.items() if start.startswith(magic)), LATIN)
        byte = error.object[error.start]
        raise SptError(
            f"{source}, line {number + 1} or soon after: not UTF-8 ({error.reason} 0x{byte:02x}); {cause}"
        ) from error


def check_unicode(values: Iterable[Any]) -> None:
    """Refuse texts that no encoding has, as `json.loads` makes of half of an emoji."""
    for text in values:
        if isinstance(text, str) and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise SptError(f"{text!r} has half a character (a lone surrogate), which is no Unicode text")
