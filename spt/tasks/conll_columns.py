"""Sentences of CoNLL columns."""

import re
from collections.abc import Callable, Iterator
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict
from typing_extensions import TypedDict

from spt.errors import SptError
from spt.tasks.entity_tags import BRACKETS, check_tag, from_brackets
from spt.tasks.table_files import QUOTED
from spt.tasks.text_lines import BLANKS, Rows, read_lines


class Places(TypedDict):
    """The columns of CoNLL files, counted from 0, negative ones from the end."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    token: int
    tag: int


WANTED = "columns, token first and tag last"


def read_conll(
    path: Path,
    places: Places | None = None,
    comments: bool | str | None = None,
    quoting: str | None = None,
    check: Callable[[str], object] = check_tag,
) -> Rows:
    """Sentences as {"tokens", "tags"} of columns separated by tabs or, in a line without a tab, by blanks.

    A blank line ends a sentence, and -DOCSTART- lines are skipped.

    Args:
        path: the file.
        places: the columns of token and tag; None: first and last.
        comments: how lines that are skipped begin, true: with #; None: there are none.
        quoting: "csv": quotes around a field are not part of it, and those inside are doubled.
        check: called with each tag; raises an SptError that says what is wrong with it.
    """
    if path.is_file() and (other := _other_shape(path, places is not None)):
        raise SptError(f"{path}, line 1: {other}")
    comments = "#" if comments is True else comments
    token, tag = (places["token"], places["tag"]) if places else (0, -1)
    words: list[list[str]] = []
    start = columns = 0
    for number, line in chain(read_lines(path), [(0, "")]):
        where = f"{path}, line {number}"
        if comments and line.startswith(comments):
            continue
        if _ends_sentence(line):
            if words:
                tags = [fields[tag] for fields in words]
                try:
                    tags = from_brackets(tags) if any(each.startswith(("(", "*")) for each in tags) else tags
                except SptError as error:
                    raise SptError(f"{path}, line {start}: {error}") from error
                yield f"{path}, line {start}", {"tokens": [fields[token] for fields in words], "tags": tags}
                words = []
            continue
        fields = _fields(line, keep_empty=places is not None)
        hint = (
            "; if lines that begin with # are comments: task.comments=true" if line[0] == "#" and not comments else ""
        )
        if quoting == "csv":
            fields = [field[1:-1].replace('""', '"') if QUOTED.fullmatch(field) else field for field in fields]
        if places and token % len(fields) != 0 and fields[0].startswith((f"{len(words) + 1}-", f"{len(words)}.")):
            continue  # in CoNLL-U a range of the words that follow, or a word that is not in the text
        if places and not all(-len(fields) <= place < len(fields) for place in (token, tag)):
            raise SptError(f"{where}: task.columns={places} needs more columns than {line.rstrip()!r} has{hint}")
        columns = columns or len(fields)
        if not places and (len(fields) < 2 or len(fields) != columns or not fields[0]):
            raise SptError(f"{where}: expected {max(columns, 2)} {WANTED}, found {line.rstrip()!r}{hint}")
        if not BRACKETS.fullmatch(fields[tag]):
            try:
                check(fields[tag])
            except SptError as error:
                other = (
                    "; if the tags are in another column: 'task.columns={token: 0, tag: 1}'; delete a line with names"
                )
                where += f", column {tag}" if places else ", last column"
                raise SptError(f"{where}: {error}{'' if places else other}{hint}") from error
        start = start if words else number
        words.append(fields)


def shape_of(
    path: Path, places: Places | None = None, comments: bool | str | None = None
) -> Literal["columns", "words", "texts"]:
    """What the lines of a file without a header are: tagged words, a word each without a tag, or a text each.

    Lines with a tab, or of one width of at least 2 with blank lines between them, are columns, whatever their last is.

    Args:
        path: the file.
        places, comments: as for `read_conll`.
    """
    mark = "#" if comments is True else comments
    head = [line for _, line in islice(read_lines(path), 500) if not mark or not line.startswith(mark)]
    rows = [_fields(line) for line in head if not _ends_sentence(line)]
    widths = {len(row) for row in rows}
    if widths <= {1}:
        return "words"
    is_table = len(widths) == 1 and not all(line.strip(BLANKS) for line in "".join(head).rstrip().split("\n"))
    tag = places["tag"] if places else -1
    tagged = sum(-len(row) <= tag < len(row) and _is_tag(row[tag]) for row in rows)
    is_columns = is_table or 2 * tagged > len(rows) or any("\t" in line for line in head)
    return "columns" if is_columns else "texts"


def read_words(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where each sentence of a file begins, and its words: one a line, blank lines between sentences."""
    words: list[str] = []
    start = 0
    for number, line in chain(read_lines(path), [(0, "")]):
        if not _ends_sentence(line):
            start = start if words else number
            words.append(line.strip(BLANKS))
        elif words:
            yield f"{path}, line {start}", words
            words = []


def _ends_sentence(line: str) -> bool:
    return not line.strip(BLANKS) or line.startswith("-DOCSTART-")


def _is_tag(text: str) -> bool:
    try:
        check_tag(text)
    except SptError:
        return bool(BRACKETS.fullmatch(text))
    return True


def _fields(line: str, keep_empty: bool = False) -> list[str]:
    """The columns of a line: between tabs, or if it has none between runs of blanks. Only ASCII blanks count.

    Empty columns at the end are left out unless `keep_empty`.
    """
    line = line.rstrip("\r\n" if keep_empty and "\t" in line else BLANKS)
    return [field.strip(BLANKS) for field in line.split("\t")] if "\t" in line else re.split(" +", line.lstrip(" "))


def _other_shape(path: Path, has_places: bool) -> str | None:
    """What a file is, by the looks of its beginning, if token first and tag last would misread it."""
    with path.open("rb") as file:
        head = file.read(2**16).decode("utf-8-sig", errors="replace").split("\n")[:500]
    rows = [_fields(line) for line in head if line.strip(BLANKS) and line[0] != "#"]
    counts, widths = ({line.count(",") for line in head[:10] if line.strip()}, {len(row) for row in rows[:10]})
    has_commas = len(counts) == 1 and min(counts) > 0 and (len(widths) > 1 or widths == {1})
    if has_commas or (path.suffix.lower() == ".csv" and "," in head[0] and "\t" not in head[0]):
        return f"expected 2 {WANTED}, found CSV: write tabs between them, or .jsonl with lists of tokens and tags"
    if has_places or not rows:
        return None
    firsts = [row[0] for row in rows]
    counted = sum(a.isdecimal() and b.isdecimal() and int(b) == int(a) + 1 for a, b in pairwise(firsts))
    if head[0].startswith("#begin document"):
        form, places, comments = "this is CoNLL-2012", "{token: 3, tag: 10}", True
    elif all(len(row) == 10 and row[0][:1].isdecimal() for row in rows):
        form, places, comments = "this is CoNLL-U", "{token: 1, tag: 9}", True
    elif 2 * counted > len(rows) - 1:
        form, places, comments = "the first column counts the words", "{token: 1, tag: 2}", False
    elif len(rows) > 1 and all(len(row) > 2 and row[0].isdecimal() for row in rows):
        form, places, comments = "the first column holds numbers alone", "{token: 1, tag: 2}", False
    else:
        return None
    return (
        f"{form}: choose columns by place, from 0, as in 'task.columns={places}'{' task.comments=true' * comments} "
        f"with task=custom and '+task.places={places}'{' +task.comments=true' * comments} with other tasks"
    )
