"""Values of overrides in Hydra's quotes."""

import re


def quoted(argument: str, verbatim: tuple[str, ...]) -> str:
    """An override of one of the `verbatim` keys with its value in Hydra's quotes; any other argument as it is."""
    key, equals, value = argument.partition("=")
    if not equals or key not in verbatim:
        return argument
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # no interpolation, ...
    value = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + "\\'" * bool(found[2]), value)  # ... no end of the quote
    return f"{key}='{value}'"
