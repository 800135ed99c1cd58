"""Input templates: text with the names of a row's fields in {braces}."""

import string

from spt.errors import SptError


def template_parts(template: str) -> list[tuple[str, str | None]]:
    """The parts of a template: each a text, and the field that follows it (None at the end)."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SptError(f"template {template!r}: {error}") from error
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise SptError(f"template {template!r}: braces hold the name of a field and nothing else")
    return [(text, name) for text, name, _, _ in parts]


def template_fields(*templates: str) -> list[str]:
    """The fields that templates name, each once."""
    names = (name for template in templates for _, name in template_parts(template))
    return list(dict.fromkeys(name for name in names if name is not None))
