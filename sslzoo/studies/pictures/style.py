"""What the pictures of a table share: the measure that they show, the colours of verdicts, titles and legends."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import tables
from ..results import Head, Result

VERDICTS = {"healthy": "#2a7f62", "partial": "#d98e04", "collapsed": "#b3261e", "diverged": "#6b4c9a"}


def measure(cells: Sequence[Result]) -> str:
    """Return what `measured` is, for an axis: kNN, or where there are no labels the rank."""
    return "kNN (k = 20, test split)" if any(cell.knn for cell in cells) else "effective rank"


def measured(cell: Result) -> float | None:
    """Return a cell's mean kNN, or where there are no labels its rank; None where it has neither."""
    if cell.knn is not None:
        return cell.knn.mean
    return cell.rank if cell.random_knn is None else None


def beside(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text at a part x of the axes' width, and at a value y; ``style`` is matplotlib's, for texts."""
    axes.text(x, y, text, transform=axes.get_yaxis_transform(), **{"va": "center", **style})


def legend(figure: Figure, cells: Sequence[Result]) -> None:
    """Draw the colours of the verdicts that cells have below a figure."""
    there = [word for word in VERDICTS if any(cell.verdict == word for cell in cells)]
    if there:
        marks = [Line2D([], [], marker="s", linestyle="", color=VERDICTS[word]) for word in there]
        figure.legend(marks, there, loc="outside lower center", ncols=len(there), frameon=False)


def title(head: Head) -> str:
    """Return the title of a table's picture."""
    return head.paper.title if head.paper else f"{head.expression} on {head.protocol.data}, {tables.epochs(head)}"
