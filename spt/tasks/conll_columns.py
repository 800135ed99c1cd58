"""Sentences of CoNLL columns, and the known shapes of such files."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path

from spt.errors import SptError
from spt.tasks.entity_tags import BRACKETS, check_tag, from_brackets
from spt.tasks.table_files import QUOTED
from spt.tasks.text_lines import BLANKS, Rows, read_lines

SAMPLE = 100  # sentences that are looked at to see whether the first column has words

TAGGED_WORDS = "token task reads columns separated by tabs or blanks, or .jsonl with tokens and tags"


def read_conll(
    path: Path,
    places: dict[str, int] | None = None,
    comments: str | None = None,
    quoting: str | None = None,
    check: Callable[[str], object] = check_tag,
) -> Rows:
    """Sentences as {"tokens", "tags"} of columns separated by tabs or, in a line without a tab, by blanks.

    A blank line ends a sentence, and -DOCSTART- lines are skipped.

    Args:
        path: the file.
        places: the columns of "token" and "tag", counted from 0, negative ones from the end; None: first and last.
        comments: how lines that are skipped begin; None: there are none.
        quoting: "csv": quotes around a field are not part of it, and those inside are doubled.
        check: called with each tag; raises an SptError that says what is wrong with it.
    """
    try:
        sentences = _sentences(path, places, comments, quoting, check)
        first = list(islice(sentences, SAMPLE))
        if places is None and first and _are_numbers([row["tokens"] for _, row in first]):
            raise SptError(f"{first[0][0]}: the first column counts the words")
        yield from chain(first, sentences)
    except SptError as error:
        raise SptError("; ".join([str(error), *_remedies(path, places, comments)])) from error


def _sentences(
    path: Path,
    places: dict[str, int] | None,
    comments: str | None,
    quoting: str | None,
    check: Callable[[str], object],
) -> Rows:
    tokens: list[str] = []
    tags: list[str] = []
    start = columns = 0
    token_place, tag_place = (places["token"], places["tag"]) if places else (0, -1)
    for number, line in chain(read_lines(path), [(0, "")]):
        where = f"{path}, line {number}"
        if comments and line.startswith(comments):
            continue
        if not line.strip(BLANKS) or line.startswith("-DOCSTART-"):
            if tokens:
                in_brackets = any(tag.startswith(("(", "*")) for tag in tags)
                yield f"{path}, line {start}", {"tokens": tokens, "tags": from_brackets(tags) if in_brackets else tags}
                tokens, tags = [], []
            continue
        fields = columns_of(line)
        if quoting == "csv":
            fields = [field[1:-1].replace('""', '"') if QUOTED.fullmatch(field) else field for field in fields]
        if places is None:
            columns = columns or len(fields)
            if len(fields) < 2 or len(fields) != columns or not fields[0]:
                raise SptError(f"{where}: expected {max(columns, 2)} columns, token first and tag last, found {line!r}")
        elif len(fields) == 10 and re.fullmatch(r"\d+[-.]\d+", fields[0]):
            continue  # in CoNLL-U a range of words, which follow one by one, or a word that is not in the text
        elif not all(-len(fields) <= place < len(fields) for place in places.values()):
            raise SptError(f"{where}: task.columns={places} needs more columns than {line!r} has")
        if not BRACKETS.fullmatch(fields[tag_place]):
            try:
                check(fields[tag_place])
            except SptError as error:
                raise SptError(f"{where}, {f'column {tag_place}' if places else 'last column'}: {error}") from error
        start = start if tokens else number
        tokens.append(fields[token_place])
        tags.append(fields[tag_place])


def columns_of(line: str) -> list[str]:
    """The columns of a line: between tabs, or if it has none between runs of blanks. Only ASCII blanks count."""
    line = line.rstrip(BLANKS)
    return [field.strip(BLANKS) for field in line.split("\t")] if "\t" in line else re.split(" +", line.lstrip(" "))


def _are_numbers(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether most words of sentences are the whole number that follows the one before."""
    counts = [
        one.isdecimal() and other.isdecimal() and int(other) == int(one) + 1
        for words in sentences
        for one, other in pairwise(words)
    ]
    return 2 * sum(counts) > len(counts)


def _remedies(path: Path, places: dict[str, int] | None, comments: str | None) -> list[str]:
    """What would make a file readable, by the looks of its beginning."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        head = file.read(2**16).decode("utf-8-sig", errors="replace").split("\n")[:-1] or [""]
    marked = [line for line in head if line.startswith("#")]
    lines = [line for line in head if line.strip(BLANKS) and line not in marked]
    rows = [columns_of(line) for line in lines]
    for separator in ",;|":
        counts = {line.count(separator) for line in lines[:10]}
        if path.suffix.lower() == ".csv" or (len(counts) == 1 and min(counts) > 0):
            what = "CSV" if path.suffix.lower() == ".csv" else f"separated by {separator!r}"
            return [f"the file looks like {what}: a {TAGGED_WORDS}"]
    found = []
    if places is None and rows:
        firsts = [[row[0] for row in rows if row[0].isdecimal()]]
        if marked and marked[0].startswith("#begin document"):
            found.append(
                "this is CoNLL-2012, with words in column 3 and entities in 10: task.columns={token: 3, tag: 10}"
            )
        elif all(len(row) == 10 and row[0][:1].isdecimal() for row in rows):
            found.append("this is CoNLL-U: choose columns by place, as in task.columns={token: 1, tag: 9}")
        elif len(firsts[0]) * 2 > len(rows) and _are_numbers(firsts):
            found.append("choose columns by place, from 0, as in task.columns={token: 1, tag: 2}")
    if comments is None and any(len(columns_of(line)) != len(rows[0] if rows else []) for line in marked):
        found.append("if lines that begin with # are comments: task.comments=true")
    return found
