"""What runs come to: cells over their seeds, and how label-free scores and papers rank the cells."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from ..metrics import health
from ..recipes.recipe import switch_values
from ..recipes.rules import collapse_guards
from .lattice import Cell
from .results import Order, Result, Scoreboard, Spread
from .store import EndedRun


def summarize(cells: Sequence[Cell], runs: Sequence[Sequence[EndedRun]], folder: Path) -> list[Result]:
    """Return the cells with the numbers of their runs, whose directories are below a folder."""
    return [_result(cell, ended, folder) for cell, ended in zip(cells, runs, strict=True)]


def _result(cell: Cell, runs: Sequence[EndedRun], folder: Path) -> Result:
    finite = [run for run in runs if not run.diverged]
    std, rank = average(run.std for run in finite), average(run.rank for run in finite)
    verdict = "diverged" if runs and not finite else None
    if finite and cell.recipe is not None:
        largest = health.largest_rank(cell.recipe.heads.dim, cell.recipe.training.batch_size)
        verdict = health.verdict(std or 0.0, rank or 0.0, largest)
    names = dict.fromkeys(name for run in finite for name in run.scores)
    paths = [str(folder / run.run) for run in runs if run.run]
    return Result(
        label=cell.label or cell.text, published=cell.published or None, expression=cell.text,
        switches=switch_values(cell.switches), combinations=cell.combinations, refused=cell.refused,
        knn=spread(run.knn for run in finite), random_knn=average(run.random_knn for run in finite),
        raw_knn=average(run.raw_knn for run in finite), std=std, rank=rank, loss=average(run.loss for run in finite),
        scores={name: average(run.scores.get(name) for run in finite) for name in names},
        guards=collapse_guards(cell.switches), verdict=verdict, diverged=len(runs) - len(finite),
        seconds=average(run.seconds for run in runs), run=paths[0] if paths else None, runs=paths,
        notes=list(dict.fromkeys(note for run in finite for note in run.notes)),
    )  # fmt: skip


def average(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return mean, sample deviation and count of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return Spread(mean(known), stdev(known) if len(known) > 1 else None, len(known)) if known else None


def published_number(text: str | None) -> float | None:
    """Return the leading number of a published result, 67.7 of "67.7 ± 0.1"; None for a text without one."""
    found = re.match(r"\s*(-?(?:\d+\.?\d*|\.\d+))", text or "")
    return float(found[1]) if found else None


def order(cells: Sequence[Result]) -> Order | None:
    """Return how kNN ranks the cells against what the paper published; None for fewer than three cells with both."""
    both = [(published_number(cell.published), cell.knn.mean) for cell in cells if cell.knn]
    pairs = [(paper, here) for paper, here in both if paper is not None]
    if len(pairs) < 3:
        return None
    return Order(spearman(*zip(*pairs, strict=True)), len(pairs))


def scoreboard(cells: Sequence[Result]) -> Scoreboard | None:
    """Return how each label-free score ranks the cells against kNN; None for fewer than four cells.

    Cells of the same runs count once, and a score counts where all cells have it.
    """
    trained = list({cell.run: cell for cell in cells if cell.knn}.values())
    if len(trained) < 4:
        return None
    knn = [cell.knn.mean for cell in trained if cell.knn]
    rows = [label_free(cell) for cell in trained]
    columns = {name: [value for row in rows if (value := row.get(name)) is not None] for name in rows[0]}
    whole = {name: column for name, column in columns.items() if len(column) == len(rows)}
    return Scoreboard(len(rows), {name: spearman(column, knn) for name, column in whole.items()})


def label_free(cell: Result) -> dict[str, float | None]:
    """Return what is known of a trained cell without labels, of which more is better, as far as that can be said."""
    loss = None if cell.loss is None else -cell.loss
    return {"std": cell.std, "rank": cell.rank, "-loss": loss, **cell.scores}


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return ranks from 1; tied values share the mean of theirs."""
    array = np.asarray(values, dtype=float)
    below, tied = (array[:, None] > array).sum(1), (array[:, None] == array).sum(1)
    return np.asarray(below + (tied + 1) / 2)


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Spearman's correlation, which is Pearson's of the ranks; None where one side is constant."""
    x, y = (ranks(side) - (len(side) + 1) / 2 for side in (a, b))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else None
