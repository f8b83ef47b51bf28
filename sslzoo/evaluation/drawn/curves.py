"""Curves of a run: what its log has by epoch."""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...training.listeners.reporter import LogRow

CURVES = (("loss", "loss"), ("knn", "kNN, k = 20"), ("rank", "rank of z"), ("std", "std of z x sqrt(d)"))
FEW = 30  # epochs that are drawn as points, too


def curves(title: str, rows: Sequence[LogRow]) -> Figure:
    """Return a figure of loss, kNN, rank and std by epoch, as far as the rows of a log have them."""
    kinds = [(key, label) for key, label in CURVES if any(getattr(row, key) is not None for row in rows)]
    figure = Figure(figsize=(3.4 * len(kinds), 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, label) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        points = [(row.epoch, getattr(row, key)) for row in rows if getattr(row, key) is not None]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < FEW else None)
        axes.set(title=label, xlabel="epoch")
    figure.suptitle(title)
    return figure
