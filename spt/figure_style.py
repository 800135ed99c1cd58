"""How all figures look, and their files: the same numbers give the same bytes."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, which remain distinct for colour-blind readers; grey is for published curves.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

MARKERS = "osD^vPX"

DASHES = ("-", "--", ":")

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "spt",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}

# For each kind of file the metadata without the time and the program that made it.
METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def figure_files(name: str, draw: Callable[[], Figure], kinds: tuple[str, ...] = ("svg", "png")) -> dict[str, bytes]:
    """The files of a figure by name, one for each kind, without the time and the program that made them."""
    files = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = draw()
        for kind in kinds:
            file = io.BytesIO()
            figure.savefig(file, format=kind, metadata=METADATA[kind])
            files[f"{name}.{kind}"] = file.getvalue()
    return files
