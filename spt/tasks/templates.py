"""Input templates: the fields they name, and whether they are well formed."""

import string
from itertools import chain

from spt.errors import SptError


def fields_of(*templates: str) -> list[str]:
    """The fields that templates name, each once."""
    parts = chain(*(string.Formatter().parse(template) for template in templates))
    return list(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def check_template(*templates: str) -> None:
    """Complain of braces that do not close, and of formats inside them, which have no meaning here."""
    for template in templates:
        try:
            for _, _, spec, conversion in string.Formatter().parse(template):
                if spec or conversion:
                    raise ValueError("braces hold the name of a field and nothing else")
        except ValueError as error:
            raise SptError(f"template {template!r}: {error}") from error
