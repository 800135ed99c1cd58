"""Pages of HTML from the Jinja2 templates in `templates/`: a page is one file, and loads nothing."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from spt.insight.result import Insight
from spt.insight.summary_rows import intervention_rows, layer_columns
from spt.insight.text_attention import TextAttention
from spt.insight.text_view import LEVELS, colours, level, prediction_table, token_rows

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=True,
)


def render(template: str, **values: Any) -> str:
    """The page of a file in `templates/`."""
    return ENVIRONMENT.get_template(template).render(**values) + "\n"


def insight_page(insight: Insight, figures: Mapping[str, bytes]) -> str:
    """The page of an insight.

    Args:
        insight: with or without interventions.
        figures: the SVG files of its figures, by the names of `spt.insight.figures.drawings`.
    """
    return render(
        "insight.html.j2",
        insight=insight,
        columns=layer_columns(insight),
        most_information=math.log(insight.prefix_length),
        interventions=[] if insight.interventions is None else intervention_rows(insight.interventions),
        figures=figures,
        inline=lambda name, title: inline_svg(figures[name].decode(), name, title),
    )


def inline_svg(svg: str, name: str, title: str) -> Markup:
    """The element of an SVG file that Matplotlib wrote, with a title for screen readers.

    Its ids get `name` in front, so that those of several figures of a page differ.
    """
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", element)
    label = f'<title id="{name}-title">{escape(title)}</title>'
    opening, rest = element.split(">", 1)
    return Markup(f'{opening} role="img" aria-labelledby="{name}-title">{label}{rest}')


def text_page(attention: TextAttention) -> str:
    """The page of what the tokens of an input do."""
    first = attention.sequences[0]
    layers, heads, _, slots = first.slot_weights.shape
    headline, columns, rows = prediction_table(attention.prediction)
    return render(
        "text.html.j2",
        attention=attention,
        has_gate=first.gate is not None,
        **{"layers": layers, "heads": heads, "slots": slots},
        **{"headline": headline, "columns": columns, "rows": rows},
        palette=[colours(at) for at in range(LEVELS + 1)],
        **{"level": level, "token_rows": token_rows},
    )
