"""Pictures of a table: its lattice as a heat map, its training curves, its bars, its scores against kNN."""

from collections.abc import Callable, Sequence
from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..tools.figure import GREY, saved
from ..training.reporter import LogRow
from ..training.runs import read_log
from . import tables
from .lattice import spoken

Row = dict[str, Any]
VERDICTS = {"healthy": "#2a7f62", "partial": "#d98e04", "collapsed": "#b3261e", "diverged": "#6b4c9a"}


def drawn(result: Row, *kinds: str) -> dict[str, bytes]:
    """Pictures of these kinds, by their files' names."""
    return {f"{kind}.png": draw(kind, result) for kind in dict.fromkeys(kinds)}


def draw(kind: str, result: Row) -> bytes:
    """A PNG of this kind: one of `KINDS`."""
    plain = mpl.rc_context({"text.parse_math": False})  # a $ in a label is a $
    with plain, mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        return saved(KINDS[kind](result))


# ---- the lattice -----------------------------------------------------------------------------------------------------


def lattice(result: Row) -> Figure:
    """A square for each combination: kNN as colour and text, and the verdict; half of the flips down, half across."""
    flips = list(result["flip"].items())
    down, across = flips[: len(flips) - len(flips) // 2], flips[len(flips) - len(flips) // 2 :]
    places = {tuple(place): cell for cell in result["cells"] for place in cell["at"]}
    high, wide = (prod(len(values) for _, values in part) for part in (down, across))
    figure = Figure(figsize=(1.25 * wide + 0.4, 0.78 * high))
    axes = figure.add_axes((0, 0, 1, 1))
    shade = Normalize(*_range(result["cells"]))
    for i, row in enumerate(product(*(values for _, values in down))):
        for j, column in enumerate(product(*(values for _, values in across))):
            _square(axes, j, i, places[(*row, *column)], shade)
    axes.set(xlim=(0, wide), ylim=(high, 0))
    axes.axis("off")
    _labels(axes, down, high, lambda at, level, text: _side(axes, at, level - len(down), text))
    _labels(axes, across, wide, lambda at, level, text: _top(axes, at, level - len(across), text))
    axes.set_title(_title(result), loc="left", y=1, pad=18 * len(across) + 12)
    bar = figure.colorbar(ScalarMappable(shade, "viridis"), ax=axes, fraction=0.25 / (1.25 * wide), aspect=12 * high)
    bar.set_label(_measure(result["cells"]))
    untrained = tables.untrained(result)
    if untrained is not None and shade.vmin <= untrained <= shade.vmax:  # type: ignore[operator]
        bar.ax.axhline(untrained, color="white", linewidth=2)
        bar.ax.axhline(untrained, color="black", linewidth=1, linestyle=":")
        note = f"dotted line: the untrained backbone, {untrained:.3f}"
        axes.annotate(note, (0, high), (0, -8), textcoords="offset points", va="top", size=7.5, annotation_clip=False)
    return figure


def _measure(cells: Sequence[Row]) -> str:
    """What `_value` is: kNN, or where there are no labels the rank."""
    return "kNN (k = 20, test split)" if any(cell["knn"] for cell in cells) else "effective rank"


def _value(cell: Row) -> float | None:
    value: float | None = cell["knn"]["mean"] if cell["knn"] else cell["rank"] if cell["random_knn"] is None else None
    return value


def _range(cells: Sequence[Row]) -> tuple[float, float]:
    """The colours' range: from the untrained backbone, or what is lower, to the best."""
    there = [value for cell in cells for value in (_value(cell), cell["random_knn"]) if value is not None] or [0, 1]
    return min(there), max(max(there), min(there) + 1e-6)


def _square(axes: Axes, x: float, y: float, cell: Row, shade: Normalize) -> None:
    value = _value(cell)
    word = "refused" if cell["refused"] else cell["verdict"] or "not run"
    if value is None:
        box = Rectangle((x, y), 1, 1, facecolor="#f1f1f1", edgecolor="#cccccc", hatch="////", linewidth=0)
        axes.add_patch(box)
        color = VERDICTS.get(word, GREY)
        axes.text(x + 0.5, y + 0.5, word, ha="center", va="center", color=color, bbox={"color": "#f1f1f1", "pad": 1})
    else:
        face = mpl.colormaps["viridis"](shade(value))
        ink = "black" if np.dot(face[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=face, linewidth=0))
        knn = cell["knn"] or {"mean": value, "sd": None}
        deviation = "" if knn["sd"] is None else f"± {knn['sd']:.3f}, "
        digits = 3 if cell["knn"] else 1
        axes.text(x + 0.5, y + 0.4, f"{value:.{digits}f}", ha="center", va="center", color=ink, size=12, weight="bold")
        axes.text(x + 0.5, y + 0.72, deviation + word, ha="center", va="center", color=ink, size=7.5)
        if word in ("collapsed", "partial"):
            frame = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, fill=False, edgecolor=VERDICTS[word], linewidth=2)
            axes.add_patch(frame)
    axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", linewidth=2))


def _labels(
    axes: Axes, flips: Sequence[tuple[str, Sequence[Any]]], total: int, put: Callable[[float, int, str], None]
) -> None:
    """A label for each value of each flip, in the middle of what it spans; the last flip is the innermost."""
    span, times = total, 1
    for level, (key, values) in enumerate(flips):
        span //= len(values)
        for n in range(times * len(values)):
            put((n + 0.5) * span, level, spoken(key, values[n % len(values)]))
        times *= len(values)


def _side(axes: Axes, at: float, level: int, text: str) -> None:
    axes.annotate(
        text,
        (0, at),
        (8 + 92 * (level + 1) - 14, 0),
        xycoords="data",
        textcoords="offset points",
        ha="right",
        va="center",
        annotation_clip=False,
    )


def _top(axes: Axes, at: float, level: int, text: str) -> None:
    axes.annotate(
        text,
        (at, 0),
        (0, 6 - 15 * (level + 1)),
        xycoords="data",
        textcoords="offset points",
        ha="center",
        va="bottom",
        annotation_clip=False,
    )


# ---- curves, bars, scatter -------------------------------------------------------------------------------------------

PANELS = {"loss": "loss", "std": "std x sqrt(d)", "rank": "effective rank", "knn": "kNN (validation)"}


def curves(result: Row) -> Figure:
    """Loss, std, rank and the looks at kNN against the epoch: the mean over seeds, in a band from least to most."""
    panels = [name for name in PANELS if name != "knn" or any(cell["knn"] for cell in result["cells"])]
    figure = Figure(figsize=(3.3 * 2, 2.5 * 2), layout="constrained")
    axes = [figure.add_subplot(2, 2, n + 1) for n in range(len(panels))]
    trained = [cell for cell in result["cells"] if cell["runs"]]
    for number, cell in enumerate(trained):
        logs = [read_log(Path(run)) for run in cell["runs"]]
        for axis, name in zip(axes, panels, strict=True):
            points = _by_epoch(logs, name)
            x, color = list(points), f"C{number}"
            style = {"color": color, "linestyle": ("-", "--", ":", "-.")[number % 4], "label": cell["label"]}
            axis.plot(x, [sum(y) / len(y) for y in points.values()], marker="o", markersize=3, **style)
            axis.fill_between(
                x,
                [min(y) for y in points.values()],
                [max(y) for y in points.values()],
                color=color,
                alpha=0.15,
                linewidth=0,
            )
    untrained = tables.untrained(result)
    if untrained is not None and "knn" in panels:
        axes[-1].axhline(untrained, color=GREY, linewidth=1, linestyle=":")
        _beside(axes[-1], 1, untrained, "untrained (test)", color=GREY, size=7, va="bottom", ha="right")
    for axis, name in zip(axes, panels, strict=True):
        axis.set(xlabel="epoch", title=PANELS[name])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if name in ("std", "rank", "knn"):
            axis.set_ylim(bottom=0)
    figure.suptitle(_title(result), x=0.02, ha="left")
    if trained:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _by_epoch(logs: Sequence[Sequence[LogRow]], name: str) -> dict[float, list[float]]:
    found: dict[float, list[float]] = {}
    for log in logs:
        for row in log:
            if (value := getattr(row, name)) is not None and isfinite(value):
                found.setdefault(row.epoch, []).append(value)
    return dict(sorted(found.items()))


def bars(result: Row) -> Figure:
    """kNN, or the rank, of each variant with its deviation, the verdict as colour, and what the paper published."""
    cells = result["cells"]
    figure = Figure(figsize=(6.6, 0.36 * len(cells) + 1.3), layout="constrained")
    axis = figure.add_subplot()
    for y, cell in enumerate(cells):
        value, word = _value(cell), "refused" if cell["refused"] else cell["verdict"] or "-"
        if value is not None:
            color, deviation = VERDICTS.get(word, GREY), cell["knn"] and cell["knn"]["sd"]
            axis.barh(y, value, 0.66, color=color, xerr=deviation, error_kw={"elinewidth": 1, "capsize": 2})
            _beside(axis, 0.01, y, f"{value:.{3 if cell['knn'] else 1}f}", color="white", weight="bold")
        else:
            _beside(axis, 0.01, y, word, color=VERDICTS.get(word, GREY))
        if cell["published"]:
            _beside(axis, 1.02, y, cell["published"])
    if any(cell["published"] for cell in cells):
        _beside(axis, 1.02, -0.8, "paper", color=GREY)
    axis.set_yticks(range(len(cells)), [cell["label"] for cell in cells])
    axis.set(ylim=(len(cells) - 0.5, -0.5 - 0.6), xlabel=_measure(cells))
    untrained = tables.untrained(result)
    if untrained is not None:
        axis.axvline(untrained, color="black", linewidth=1, linestyle=":")
        axis.text(untrained, -0.8, "untrained", ha="center", va="center", size=7)
    figure.suptitle(_title(result), x=0.02, ha="left")
    _legend(figure, cells)
    return figure


def scatter(result: Row) -> Figure:
    """Each label-free score against kNN, or the rank, a point a cell: what could be known without labels."""
    cells = [cell for cell in result["cells"] if _value(cell) is not None]
    names = [name for name in result["scoreboard"] or {} if name != "n"] or ["std", "rank", "-loss"]
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(2.4 * across + 0.4, 2.5 * down + 0.7), layout="constrained")
    for n, name in enumerate(names):
        axis = figure.add_subplot(down, across, n + 1)
        rho = (result["scoreboard"] or {}).get(name)
        axis.set_title(f"{name}: Spearman {'-' if rho is None else format(rho, '.2f')}")
        for cell in cells:
            score = {"std": cell["std"], "rank": cell["rank"], "-loss": -cell["loss"], **cell["scores"]}.get(name)
            value = _value(cell)
            if score is not None and value is not None:
                axis.scatter(score, value, color=VERDICTS.get(cell["verdict"], GREY), s=28, linewidths=0)
        axis.set(xlabel=name, ylabel=_measure(cells) if n % across == 0 else "")
    figure.suptitle(_title(result), x=0.02, ha="left")
    _legend(figure, cells)
    return figure


def _beside(axis: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a part of the axes' width, and at a value of y."""
    axis.text(x, y, text, transform=axis.get_yaxis_transform(), **{"va": "center", **style})


def _legend(figure: Figure, cells: Sequence[Row]) -> None:
    there = [word for word in VERDICTS if any(cell["verdict"] == word for cell in cells)]
    if there:
        marks = [Line2D([], [], marker="s", linestyle="", color=VERDICTS[word]) for word in there]
        figure.legend(marks, there, loc="outside lower center", ncols=len(there), frameon=False)


def _title(result: Row) -> str:
    return str(result.get("title") or f"{result['expression']} on {result['data']}, {tables.passes(result)}")


KINDS: dict[str, Callable[[Row], Figure]] = {"lattice": lattice, "curves": curves, "bars": bars, "scatter": scatter}
