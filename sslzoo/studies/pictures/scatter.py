"""A table's label-free scores against kNN: what could be known without labels."""

from matplotlib.figure import Figure

from ...tools.figure import GREY
from ..results import Table
from ..summary import label_free
from ..tables import telling
from .style import VERDICTS, legend, measure, measured, title


def scatter(table: Table) -> Figure:
    """Draw each label-free score against kNN, or the rank, a point a cell, with its correlation."""
    cells = [cell for cell in table.cells if measured(cell) is not None]
    correlations = table.scoreboard.spearman if table.scoreboard else {}
    few = not telling(cells, len(cells))
    names = list(correlations) or ["std", "rank", "-loss"]
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.4 * across + 0.4, 2.5 * down + 0.7), layout="constrained")
    for n, name in enumerate(names):
        axes = figure.add_subplot(down, across, n + 1)
        rho = correlations.get(name)
        axes.set_title(name if few else f"{name}: Spearman {'-' if rho is None else format(rho, '.2f')}")
        for cell in cells:
            score, value = label_free(cell).get(name), measured(cell)
            if score is not None and value is not None:
                axes.scatter(score, value, color=VERDICTS.get(cell.verdict or "", GREY), s=28, linewidths=0)
        axes.set(xlabel=name, ylabel=measure(cells) if n % across == 0 else "")
    figure.suptitle(title(table.head), x=0.02, ha="left")
    legend(figure, cells)
    return figure
