"""IOB tags of named entities: check them, convert them to IOB2, make them from spans."""

from typing import Any

from spt.errors import SptError, UnusableRow


def check_tag(tag: Any) -> None:
    """Raise an SptError unless `tag` is O, B-TYPE or I-TYPE."""
    if tag != "O" and not (isinstance(tag, str) and tag[:2] in ("B-", "I-") and len(tag) > 2):
        raise SptError(f"{tag!r} is not a tag: expected O, B-TYPE or I-TYPE")


def to_iob2(tags: list[str]) -> list[str]:
    """IOB1 or IOB2 tags as IOB2, where every entity starts with "B-".

    In both schemes an entity starts at "B-", after "O", and where the type changes.
    """
    pairs = zip(["O", *tags], tags, strict=False)
    return [f"B-{tag[2:]}" if tag != "O" and previous[2:] != tag[2:] else tag for previous, tag in pairs]


def spans_to_tags(length: int, spans: list[dict[str, Any]]) -> list[str]:
    """IOB2 tags of `length` words from spans of {"start", "end" (exclusive), "type"}."""
    tags = ["O"] * length
    for span in spans:
        try:
            start, end, kind = int(span["start"]), int(span["end"]), str(span["type"])
        except (KeyError, TypeError, ValueError) as error:
            raise SptError(f"{span!r} is not a span: expected start, end and type") from error
        if not 0 <= start < end <= length:
            raise SptError(f"span {start}-{end} lies outside a sentence of {length} words")
        if any(tag != "O" for tag in tags[start:end]):
            raise UnusableRow(f"span {start}-{end} overlaps another, and a word has one tag")
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return tags
