"""The kinds of picture that a table has, and their files."""

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from ...tools.figure import saved
from ..results import Table
from .bars import bars
from .curves import curves
from .heatmap import heatmap
from .scatter import scatter

KINDS: dict[str, Callable[[Table], Figure]] = {"lattice": heatmap, "curves": curves, "bars": bars, "scatter": scatter}


def draw(table: Table, kinds: Sequence[str]) -> dict[str, bytes]:
    """Return PNGs of these kinds of `KINDS`, by their files' names."""
    return {f"{kind}.png": png(table, kind) for kind in dict.fromkeys(kinds)}


def png(table: Table, kind: str) -> bytes:
    """Return a PNG of a kind of `KINDS`."""
    plain = mpl.rc_context({"text.parse_math": False})  # a $ in a label is a $
    with plain, mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        return saved(KINDS[kind](table))
