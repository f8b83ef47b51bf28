"""A table's variants as bars."""

from matplotlib.figure import Figure

from ...tools.figure import GREY
from .. import tables
from ..results import Table
from .style import VERDICTS, beside, legend, measure, measured, title


def bars(table: Table) -> Figure:
    """Draw kNN, or the rank, of each variant with its deviation; the colour is the verdict, beside is the paper."""
    cells = table.cells
    figure = Figure(figsize=(6.6, 0.36 * len(cells) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    for y, cell in enumerate(cells):
        value, color = measured(cell), VERDICTS.get(tables.verdict(cell), GREY)
        if value is not None:
            deviation = cell.knn and cell.knn.sd
            axes.barh(y, value, 0.66, color=color, xerr=deviation, error_kw={"elinewidth": 1, "capsize": 2})
            beside(axes, 0.01, y, f"{value:.{3 if cell.knn else 1}f}", color="white", weight="bold")
        else:
            beside(axes, 0.01, y, tables.verdict(cell), color=color)
        if cell.published:
            beside(axes, 1.02, y, cell.published)
    if any(cell.published for cell in cells):
        beside(axes, 1.02, -0.8, "paper", color=GREY)
    axes.set_yticks(range(len(cells)), [cell.label for cell in cells])
    axes.set(ylim=(len(cells) - 0.5, -0.5 - 0.6), xlabel=measure(cells))
    untrained = tables.untrained(table)
    if untrained is not None:
        axes.axvline(untrained, color="black", linewidth=1, linestyle=":")
        axes.text(untrained, -0.8, "untrained", ha="center", va="center", size=7)
    figure.suptitle(title(table.head), x=0.02, ha="left")
    legend(figure, cells)
    return figure
