"""Pictures of embeddings: rows in a plane, and indexes by what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ...tools.figure import GREY, saved
from ...tools.labels import named
from ...tools.quoting import printable
from ..results import IndexRow


def plane(
    points: "np.ndarray[Any, Any]",
    labels: "np.ndarray[Any, Any] | None",
    source: str,
    how: str,
    names: Sequence[str] = (),
) -> bytes:
    """Return a PNG of rows in a plane, coloured by class; ``names`` are those of the classes 0, 1, ..."""
    figure = Figure(figsize=(6, 5))
    axis = figure.add_subplot()
    classes = [None] if labels is None else list(np.unique(labels))
    for number, name in enumerate(classes):
        some = points if name is None else points[labels == name]
        color = GREY if name is None else mpl.colormaps["tab20"](number % 20)
        axis.scatter(
            some[:, 0], some[:, 1], s=5, linewidths=0, alpha=0.7, color=color,
            label=None if name is None else in_legend(named(name, names)),
        )  # fmt: skip
    axis.set(xticks=[], yticks=[], title=f"{source}, {how}")
    if labels is not None and len(classes) <= 20:
        axis.legend(title="class", markerscale=3, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return saved(figure)


def in_legend(name: str) -> str:
    """Return a name as matplotlib shows it: no formula, and not left out for its underscore."""
    return printable(name).replace("$", r"\$") if not name.startswith("_") else in_legend(f" {name}")


def tradeoff(rows: Sequence[IndexRow], source: str) -> bytes:
    """Return a PNG of indexes: recall of the exact neighbours against queries a second."""
    figure = Figure(figsize=(6, 4))
    axis = figure.add_subplot()
    for number, row in enumerate(rows):
        color = mpl.colormaps["tab10"](number % 10)
        axis.scatter(row.queries_per_second, row.recall, s=40, color=color, label=row.index)
    axis.margins(0.1)
    axis.set(
        xscale="log", xlabel="queries a second", ylabel="recall of the 10 exact neighbours", title=Path(source).name
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return saved(figure)
