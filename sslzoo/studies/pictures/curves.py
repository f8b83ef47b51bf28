"""A table's training curves."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...tools.figure import GREY
from ...training.listeners.reporter import LogRow
from ...training.runs import read_log
from .. import tables
from ..results import Table
from .style import beside, title

PANELS = {"loss": "loss", "std": "std x sqrt(d)", "rank": "effective rank", "knn": "kNN (validation)"}
DASHES = ("-", "--", ":", "-.")


def curves(table: Table) -> Figure:
    """Draw loss, std, rank and kNN against the epoch: the mean over seeds, in a band from least to most."""
    panels = [name for name in PANELS if name != "knn" or any(cell.knn for cell in table.cells)]
    figure = Figure(figsize=(3.3 * 2, 2.5 * 2), layout="constrained")
    axes = [figure.add_subplot(2, 2, n + 1) for n in range(len(panels))]
    trained = [cell for cell in table.cells if cell.runs]
    for number, cell in enumerate(trained):
        logs = [read_log(Path(run)) for run in cell.runs]
        for one, name in zip(axes, panels, strict=True):
            points = _by_epoch(logs, name)
            x, ys, color = list(points), list(points.values()), f"C{number}"
            dashes = DASHES[number % len(DASHES)]
            mean = [sum(y) / len(y) for y in ys]
            one.plot(x, mean, marker="o", markersize=3, color=color, linestyle=dashes, label=cell.label)
            one.fill_between(x, [min(y) for y in ys], [max(y) for y in ys], color=color, alpha=0.15, linewidth=0)
    untrained = tables.untrained(table)
    if untrained is not None and "knn" in panels:
        axes[-1].axhline(untrained, color=GREY, linewidth=1, linestyle=":")
        beside(axes[-1], 1, untrained, "untrained (test)", color=GREY, size=7, va="bottom", ha="right")
    for one, name in zip(axes, panels, strict=True):
        one.set(xlabel="epoch", title=PANELS[name])
        one.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if name in ("std", "rank", "knn"):
            one.set_ylim(bottom=0)
    figure.suptitle(title(table.head), x=0.02, ha="left")
    if trained:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _by_epoch(logs: Sequence[Sequence[LogRow]], name: str) -> dict[float, list[float]]:
    """Return a column of several logs, by epoch; a log may lack it, or have it for some epochs only."""
    found: dict[float, list[float]] = {}
    for log in logs:
        for row in log:
            if (value := getattr(row, name)) is not None and isfinite(value):
                found.setdefault(row.epoch, []).append(value)
    return dict(sorted(found.items()))
