"""Tags of named entities: check them, convert them to IOB2, make them from spans."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from spt.errors import SptError, UnusableRow, is_whole

Scheme = Literal["bio", "bioes", "bilou", "io"]

SINGLE_AND_LAST = {"bioes": ("S", "E"), "bilou": ("U", "L")}  # the prefixes of an entity's only word and of its last

PREFIX = "^[BIESLU]-"

TYPE = r"(?![BIESLUM][-_]|[bi]-|[BIESLU]$|o$)(?!.*[-_][BI]$)[^\W\d_].*"  # of IO: no prefix, nor one written otherwise

EXPECTED = {
    "bio": "O, B-TYPE or I-TYPE",
    "bioes": "O, B-TYPE, I-TYPE, E-TYPE or S-TYPE",
    "bilou": "O, B-TYPE, I-TYPE, L-TYPE or U-TYPE",
    "io": "O, TYPE or I-TYPE",
}

HINTS = {  # what a tag of another scheme shows
    r"[SE]-.+": "it is one of BIOES: set task.scheme=bioes",
    r"[UL]-.+": "it is one of BILOU: set task.scheme=bilou",
    r"[BI]-.+": "it is one of BIO: set task.scheme=bio",
    r"M-.+": "BMES is not read: write I- for M-, and set task.scheme=bioes",
    r"[BIESLU]-?": "it has no type: write B-TYPE and so on, also where there is one type alone",
    r"\d+": "name the tags that the numbers stand for, in their order, in task.labels=[O,B-TYPE,I-TYPE,...] "
    "with task=custom, in +task.tag_names=[O,B-TYPE,I-TYPE,...] with other tasks",
    rf"(?=[\w.-]*$){TYPE}": "if the tags are types alone, set task.scheme=io",
}

BRACKETS = re.compile(r"\(([^\s()*]+)(\)|\*)|\*\)?")  # CoNLL-2012's (TYPE), (TYPE* ... *), and *


def check_tag(tag: Any, scheme: Scheme | None = None, names: Sequence[str] = ()) -> str:
    """The tag, by its name.

    Args:
        tag: a text, or an index of `names`.
        scheme: the one it must be of; None: IOB1 or IOB2, as for "bio".
        names: what numbers stand for.

    Raises:
        SptError: if it is not a tag of the scheme.
    """
    text = str(tag) if is_whole(tag) else tag.strip() if isinstance(tag, str) else ""
    if names and text.isdecimal() and int(text) < len(names):
        text = names[int(text)]
    scheme = scheme or "bio"
    prefixes = "".join(SINGLE_AND_LAST.get(scheme, ()))
    pattern = rf"(I-)?{TYPE}" if scheme == "io" else f"[BI{prefixes}]-.+"
    if text == "O" or re.fullmatch(pattern, text):
        return text
    hint = next((f"; {cause}" for pattern, cause in HINTS.items() if re.fullmatch(pattern, text)), "")
    raise SptError(f"{tag!r} is not a tag: expected {EXPECTED[scheme]}{hint}")


def iob2_tags(tags: Any, scheme: Scheme | None = None, names: Sequence[str] = ()) -> list[str]:
    """The tags of a sentence as data has them, checked by `check_tag`, as IOB2."""
    if not isinstance(tags, list):
        raise SptError(f"tags must be a list of tags, not {tags!r}")
    return to_iob2([check_tag(tag, scheme, names) for tag in tags], scheme)


def to_iob2(tags: list[str], scheme: Scheme | None = None) -> list[str]:
    """Tags of a scheme as IOB2, where every entity starts with "B-".

    In IOB1 and IOB2 an entity starts at "B-", after "O", and where the type changes. In IO two entities of a type that
    follow each other are one.

    Raises:
        SptError: if tags of BIOES or BILOU do not make whole entities.
    """
    if scheme == "io":
        tags = [tag if tag == "O" else f"I-{tag.removeprefix('I-')}" for tag in tags]
    elif scheme in SINGLE_AND_LAST:
        single, last = SINGLE_AND_LAST[scheme]
        open_type = ""
        for number, (previous, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True), start=1):
            if open_type != (tag[2:] if tag[0] in ("I", last) else ""):
                raise SptError(f"word {number}: {tag!r} after {previous!r} makes no whole entity of {scheme.upper()}")
            open_type = tag[2:] if tag[0] in "BI" else ""
        iob2 = {single: "B", last: "I"}
        return [iob2.get(tag[0], tag[0]) + tag[1:] for tag in tags]
    pairs = zip(["O", *tags], tags, strict=False)
    return [f"B-{tag[2:]}" if tag != "O" and previous[2:] != tag[2:] else tag for previous, tag in pairs]


def from_brackets(tags: list[str]) -> list[str]:
    """CoNLL-2012's entities in brackets as IOB2."""
    if not re.fullmatch(r"((\([^\s()*]+(\)|\*( \*)* \*\))|\*)( |$))*", " ".join(tags)):
        raise SptError(f"{' '.join(tags)!r}: brackets of entities must open and close in turn")
    converted, kind = [], ""
    for tag in tags:
        begins = tag.startswith("(")
        kind = tag.strip("(*)") or kind
        converted.append(f"{'B' if begins else 'I'}-{kind}" if kind else "O")
        kind = "" if tag.endswith(")") else kind
    return converted


def spans_to_tags(length: int, spans: Any) -> list[str]:
    """IOB2 tags of `length` words from spans of {"start", "end" (exclusive), "type"}."""
    tags = ["O"] * length
    if not isinstance(spans, list):
        raise SptError(f"entities must be a list of spans, not {spans!r}")
    for span in spans:
        try:
            first, last, kind = float(span["start"]), float(span["end"]), str(span["type"])
        except (KeyError, TypeError, ValueError) as error:
            raise SptError(f"{span!r} is not a span: expected start, end and type") from error
        if not first.is_integer() or not last.is_integer():
            raise SptError(f"start and end of a span must be whole numbers of words, not {first} and {last}")
        start, end = int(first), int(last)
        if not 0 <= start < end <= length:
            raise SptError(f"span {start}-{end} lies outside a sentence of {length} words")
        if any(tag != "O" for tag in tags[start:end]):
            raise UnusableRow(f"span {start}-{end} overlaps another, and a word has one tag")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags
