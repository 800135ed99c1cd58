"""The prose of the report from the Jinja2 templates in `templates/`."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spt.console import percent
from spt.numerics_version import NUMERICS
from spt.records.bootstrap import RESAMPLES
from spt.report.number_format import METRICS, at_most_100, listed, number
from spt.report.paired_tests import ALSO_COMPARED, MOST_COMPARISONS, POWER, REFERENCE
from spt.report.runs_frame import MEANING, SIGNS

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # Markdown and plain text
)
ENVIRONMENT.filters |= {"number": number, "at_most_100": at_most_100, "listed": listed, "percent": percent}
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


def notes(kind: str, **values: Any) -> list[str]:
    """The items that a macro of `templates/notes.j2` lists under a table."""
    text = str(getattr(ENVIRONMENT.get_template("notes.j2").module, kind)(**values))
    return [" ".join(item.split()) for item in re.split(r"^\s*-\s", text, flags=re.MULTILINE) if item.strip()]
