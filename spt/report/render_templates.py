"""The prose of the report from the Jinja2 templates in `templates/`, wrapped to lines of `WIDTH` characters."""

import re
import textwrap
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spt.console import percent
from spt.numerics_version import NUMERICS
from spt.records.bootstrap import RESAMPLES
from spt.report.number_format import METRICS, listed, number
from spt.report.paired_tests import ALSO_COMPARED, MOST_COMPARISONS, POWER, REFERENCE
from spt.report.runs_frame import MEANING, SIGNS

WIDTH = 120

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # Markdown and plain text
)
ENVIRONMENT.filters |= {"number": number, "listed": listed, "percent": percent}
ENVIRONMENT.globals |= {
    "also_compared": ALSO_COMPARED,
    "meaning": MEANING,
    "metrics": METRICS,
    "most_comparisons": MOST_COMPARISONS,
    "numerics": NUMERICS,
    "power": POWER,
    "reference": REFERENCE,
    "resamples": RESAMPLES,
    "signs": SIGNS,
}


def render(template: str, **values: Any) -> str:
    """The text of a file in `templates/`, with paragraphs and list items in lines of at most `WIDTH` characters."""
    return reflowed(ENVIRONMENT.get_template(template).render(**values))


def notes(kind: str, **values: Any) -> list[str]:
    """The items that a macro of `templates/notes.j2` lists under a table."""
    text = str(getattr(ENVIRONMENT.get_template("notes.j2").module, kind)(**values))
    return [" ".join(item.split()) for item in re.split(r"^\s*-\s", text, flags=re.MULTILINE) if item.strip()]


def reflowed(text: str) -> str:
    """Markdown with its paragraphs and list items wrapped; tables, headings, images and code stay as they are."""
    blocks = [block.strip("\n") for block in re.split(r"\n\s*\n", text)]
    return "\n\n".join(_reflowed_block(block) for block in blocks if block.strip()) + "\n"


def _reflowed_block(block: str) -> str:
    if re.match(r"\||#|!\[|    ", block):
        return block
    if block.startswith("- "):
        return "\n".join(wrapped(item, "- ") for item in re.split(r"\n?^- ", block, flags=re.MULTILINE) if item)
    return wrapped(block)


def wrapped(text: str, bullet: str = "") -> str:
    """A paragraph or list item in lines of at most `WIDTH` characters."""
    indent = " " * len(bullet)
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=bullet,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
