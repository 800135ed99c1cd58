"""The site of the documentation: `make docs` writes docs/_build/html, executes the notebook and needs no network."""

import re

from sphinx.application import Sphinx

import spt

project = "spt"
copyright = "the spt authors"
version = release = spt.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "spt"

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")  # links to files of the repository that are no pages of the site


def name_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Show a link to a file of the repository as its name."""
    source[0] = OUTSIDE.sub(r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", name_files)
