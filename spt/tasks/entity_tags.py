"""IOB tags of named entities: checked, converted to IOB2, made from spans."""

from typing import Any

from spt.errors import SptError


def check_tag(tag: Any) -> None:
    """Complain of a tag that is none."""
    if tag != "O" and not (isinstance(tag, str) and tag[:2] in ("B-", "I-") and len(tag) > 2):
        raise SptError(f"{tag!r} is no tag: expected O, B-TYPE or I-TYPE")


def to_iob2(tags: list[str]) -> list[str]:
    """`tags` with "B-" on the first word of every entity. IOB2 comes back as it is, IOB1 converted.

    In both, a new entity starts at "B-" and where the type changes or follows an O.
    """
    converted = []
    previous = "O"
    for tag in tags:
        starts = tag != "O" and (tag[0] == "B" or previous[2:] != tag[2:])
        converted.append(f"B-{tag[2:]}" if starts else tag)
        previous = tag
    return converted


def spans_to_tags(length: int, spans: list[dict[str, Any]]) -> list[str]:
    """IOB2 tags of `length` words from spans of {"start", "end" (exclusive), "type"}."""
    tags = ["O"] * length
    for span in spans:
        try:
            start, end, kind = int(span["start"]), int(span["end"]), str(span["type"])
        except (KeyError, TypeError, ValueError) as error:
            raise SptError(f"{span!r} is no span: expected start, end and type") from error
        if not 0 <= start < end <= length:
            raise SptError(f"span {start}-{end} lies outside a sentence of {length} words")
        if any(tag != "O" for tag in tags[start:end]):
            raise SptError(f"span {start}-{end} overlaps another")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags
