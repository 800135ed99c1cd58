"""How all figures look, and their files: the same numbers give the same bytes."""

import io
import zlib
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, TypedDict

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, which remain distinct for colour-blind readers; grey is for what is not a row of a table.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

GREY = "#8c8c8c"

COLUMN, PAGE = 3.3, 6.8  # inches: the width of a column and of both columns of a paper

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "spt",
    "svg.fonttype": "none",  # text remains text: a viewer without the first font takes the next
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "savefig.dpi": 150,
}

# For each kind of file the metadata without the time and the program that made it.
METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


class Look(TypedDict):
    """The arguments of Matplotlib's `plot` that tell a row of a table from the others."""

    color: str
    marker: str
    linestyle: Any


_DASHED, _DOTTED, _DASHDOTTED, _LONG = (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)), (0, (7, 2))

# Shipped methods, and the other rows of conf/table: a colour and marker for each method, and dashes for its variants.
_FIXED: dict[str, Look] = {
    row: {"color": color, "marker": marker, "linestyle": dashes}
    for row, color, marker, dashes in (
        ("spt", "#0072B2", "o", "-"),
        ("spt-kd", "#0072B2", "o", _DASHED),
        ("spt-sd", "#0072B2", "o", _DOTTED),
        ("spt-kd-sd", "#0072B2", "o", _DASHDOTTED),
        ("spt_sl", "#D55E00", "s", _DASHED),
        ("spt_sl-kd", "#D55E00", "s", "-"),
        ("spt_sl-sd", "#D55E00", "s", _DOTTED),
        ("spt_sl-kd-sd", "#D55E00", "s", _DASHDOTTED),
        ("prefix_tuning", "#009E73", "^", _DASHDOTTED),
        ("p_tuning_v2", "#009E73", "<", _LONG),
        ("ungated", "#CC79A7", "D", _LONG),
        ("ungated-kd", "#CC79A7", "D", _DOTTED),
        ("ungated_sl", "#882255", "d", "-"),
        ("ungated_sl-kd", "#882255", "d", _DASHED),
        ("linear_probe", "#E69F00", "v", _DOTTED),
        ("bitfit", "#56B4E9", "P", "-"),
        ("fine_tuning", "#000000", ">", "-"),
        ("lora", "#661100", "*", _DASHED),
    )
}

# For all other rows, in this order: first the colours, then the markers change.
_FURTHER = [
    Look(color=color, marker=marker, linestyle=dashes)
    for marker, dashes in (("h", "-"), ("p", _DASHED), ("X", _DOTTED), ("8", _LONG), ("H", _DASHDOTTED))
    for color in ("#332288", "#999933", "#44AA99", "#AA4499", "#555555")
]


def looks(rows: Iterable[str]) -> dict[str, Look]:
    """The look of each row, for shipped ones the same everywhere; those of others depend on the set of names alone."""
    names = list(dict.fromkeys(rows))
    further, taken = dict[str, Look](), set[int]()
    for name in sorted(name for name in names if name not in _FIXED):
        start = zlib.crc32(name.encode()) % 5
        places = (5 * turn + (start + step) % 5 for turn in count() for step in range(5))
        place = next(place for place in places if place not in taken)
        taken.add(place)
        further[name] = _FURTHER[place % len(_FURTHER)]
    return {name: _FIXED[name] if name in _FIXED else further[name] for name in names}


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
