"""Quote the values of overrides, so that Hydra takes them as plain text."""

import re


def quoted(argument: str, verbatim: tuple[str, ...]) -> str:
    """An override with its value in Hydra's single quotes, if its key is in `verbatim`; else the argument as it is."""
    key, equals, value = argument.partition("=")
    if not equals or key not in verbatim:
        return argument
    # In quotes, Hydra reads a backslash as an escape only in front of a quote, and OmegaConf only in front of ${.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)$", r"\1\1", value)  # the closing quote follows
    return f"{key}='{value}'"
