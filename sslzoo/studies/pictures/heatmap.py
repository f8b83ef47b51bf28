"""A table's lattice as a heat map."""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...recipes.schema import Value
from ...tools.figure import GREY
from .. import tables
from ..lattice import in_words
from ..results import Result, Table
from .style import VERDICTS, measure, measured, title

Flips = Sequence[tuple[str, Sequence[Value]]]  # a key and its values


def heatmap(table: Table) -> Figure:
    """Draw a square for each combination, kNN as colour and text, and the verdict; half of the flips go down."""
    flips = list((table.head.flip or {}).items())
    down, across = flips[: len(flips) - len(flips) // 2], flips[len(flips) - len(flips) // 2 :]
    cells = {combination: cell for cell in table.cells for combination in cell.combinations}
    high, wide = (prod(len(values) for _, values in part) for part in (down, across))
    figure = Figure(figsize=(1.25 * wide + 0.4, 0.78 * high))
    axes = figure.add_axes((0, 0, 1, 1))
    shade = Normalize(*_range(table.cells))
    for y, row in enumerate(product(*(values for _, values in down))):
        for x, column in enumerate(product(*(values for _, values in across))):
            _square(axes, x, y, cells[(*row, *column)], shade)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.axis("off")
    _labels(down, high, lambda at, level, text: _side(axes, at, level - len(down), text))
    _labels(across, wide, lambda at, level, text: _top(axes, at, level - len(across), text))
    axes.set_title(title(table.head), loc="left", y=1, pad=18 * len(across) + 12)
    bar = figure.colorbar(ScalarMappable(shade, "viridis"), ax=axes, fraction=0.25 / (1.25 * wide), aspect=12 * high)
    bar.set_label(measure(table.cells))
    untrained = tables.untrained(table)
    if untrained is not None and shade.vmin <= untrained <= shade.vmax:  # type: ignore[operator]
        bar.ax.axhline(untrained, color="white", linewidth=2)
        bar.ax.axhline(untrained, color="black", linewidth=1, linestyle=":")
        note = f"dotted line: the untrained backbone, {untrained:.3f}"
        axes.annotate(note, (0, high), (0, -8), textcoords="offset points", va="top", size=7.5, annotation_clip=False)
    return figure


def _range(cells: Sequence[Result]) -> tuple[float, float]:
    """Return the colours' range: from the untrained backbone, or what is lower, to the best."""
    known = [value for cell in cells for value in (measured(cell), cell.random_knn) if value is not None] or [0, 1]
    return min(known), max(max(known), min(known) + 1e-6)


def _square(axes: Axes, x: float, y: float, cell: Result, shade: Normalize) -> None:
    value = measured(cell)
    word = "refused" if cell.refused else cell.verdict or "not run"
    if value is None:
        box = Rectangle((x, y), 1, 1, facecolor="#f1f1f1", edgecolor="#cccccc", hatch="////", linewidth=0)
        axes.add_patch(box)
        color = VERDICTS.get(word, GREY)
        axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", color=color, bbox={"color": "#f1f1f1", "pad": 1})
    else:
        face = mpl.colormaps["viridis"](shade(value))
        ink = "black" if np.dot(face[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=face, linewidth=0))
        deviation = "" if cell.knn is None or cell.knn.sd is None else f"± {cell.knn.sd:.3f}, "
        digits = 3 if cell.knn else 1
        axes.text(x + 0.5, y + 0.4, f"{value:.{digits}f}", ha="center", va="center", color=ink, size=12, weight="bold")
        axes.text(x + 0.5, y + 0.72, deviation + word, ha="center", va="center", color=ink, size=7.5)
        if word in ("collapsed", "partial"):
            frame = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, fill=False, edgecolor=VERDICTS[word], linewidth=2)
            axes.add_patch(frame)
    axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=2))


def _labels(flips: Flips, total: int, put: Callable[[float, int, str], None]) -> None:
    """Put a label for each value of each flip in the middle of what it spans; the last flip is the innermost."""
    span, times = total, 1
    for level, (key, values) in enumerate(flips):
        span //= len(values)
        for n in range(times * len(values)):
            put((n + 0.5) * span, level, in_words(key, values[n % len(values)]))
        times *= len(values)


def _side(axes: Axes, y: float, level: int, text: str) -> None:
    """Write a label on the left, the innermost (level -1) next to the squares."""
    offset = (8 + 92 * (level + 1) - 14, 0)
    _outside(axes, (0, y), offset, text, "right", "center")


def _top(axes: Axes, x: float, level: int, text: str) -> None:
    """Write a label above, the innermost (level -1) next to the squares."""
    offset = (0, 6 - 15 * (level + 1))
    _outside(axes, (x, 0), offset, text, "center", "bottom")


def _outside(axes: Axes, at: tuple[float, float], offset: tuple[float, float], text: str, ha: str, va: str) -> None:
    """Write a text outside the axes, so many points from a point of the data."""
    axes.annotate(text, at, offset, "data", "offset points", ha=ha, va=va, annotation_clip=False)
