"""What runs come to: cells over their seeds, and how label-free scores and papers rank the cells."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import health
from ..recipes.recipe import switch_values
from ..recipes.rules import collapse_guards
from .lattice import Cell

Row = dict[str, Any]


def summarize(cells: Sequence[Cell], records: Sequence[Sequence[Row]], folder: Path) -> Row:
    """The cells with the numbers of their runs' records, below this folder, and what ranks them."""
    found = [_cell(cell, ended, folder) for cell, ended in zip(cells, records, strict=True)]
    return {"cells": found, "order": order(found), "scoreboard": scoreboard(found)}


def _cell(cell: Cell, records: Sequence[Row], folder: Path) -> Row:
    ended = [row for row in records if not row["diverged"]]
    numbers = {name: average(row[name] for row in ended) for name in ("random_knn", "raw_knn", "std", "rank", "loss")}
    verdict = "diverged" if records and not ended else None
    if ended and cell.recipe is not None:
        largest = health.largest_rank(cell.recipe.heads.dim, cell.recipe.training.batch_size)
        verdict = health.verdict(numbers["std"] or 0.0, numbers["rank"] or 0.0, largest)
    names = dict.fromkeys(name for row in ended for name in row["scores"])
    paths = [str(folder / row["run"]) for row in records if row["run"]]
    return {
        "label": cell.label or cell.text, "published": cell.published or None, "expression": cell.text,
        "switches": switch_values(cell.switches), "at": [list(place) for place in cell.at],
        "refused": cell.refused, "knn": deviation(row["knn"] for row in ended), **numbers,
        "scores": {name: average(row["scores"].get(name) for row in ended) for name in names},
        "guards": collapse_guards(cell.switches), "verdict": verdict, "diverged": len(records) - len(ended),
        "seconds": average(row["seconds"] for row in records), "run": paths[0] if paths else None, "runs": paths,
    }  # fmt: skip


def average(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    there = [value for value in values if value is not None]
    return mean(there) if there else None


def deviation(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean, sample deviation and count of those that are there; None for none."""
    there = [value for value in values if value is not None]
    return {"mean": mean(there), "sd": stdev(there) if len(there) > 1 else None, "n": len(there)} if there else None


def published(text: str | None) -> float | None:
    """The leading number of a published result: 67.7 of "67.7 ± 0.1"."""
    found = re.match(r"\s*(-?(?:\d+\.?\d*|\.\d+))", text or "")
    return float(found[1]) if found else None


def order(cells: Sequence[Row]) -> Row | None:
    """Spearman's correlation of kNN with what the paper published; None for fewer than three cells with both."""
    both = [(published(cell["published"]), cell["knn"]["mean"]) for cell in cells if cell["knn"]]
    pairs = [(paper, here) for paper, here in both if paper is not None]
    if len(pairs) < 3:
        return None
    return {"spearman": spearman(*zip(*pairs, strict=True)), "n": len(pairs)}


def scoreboard(cells: Sequence[Row]) -> Row | None:
    """Spearman's correlation of each label-free score with kNN over the cells; None for fewer than four cells."""
    trained = list({cell["run"]: cell for cell in cells if cell["knn"]}.values())
    if len(trained) < 4:
        return None
    knn = [cell["knn"]["mean"] for cell in trained]
    rows = [{"std": c["std"], "rank": c["rank"], "-loss": -c["loss"], **c["scores"]} for c in trained]
    names = [name for name in rows[0] if all(row.get(name) is not None for row in rows)]
    return {"n": len(rows), **{name: spearman([row[name] for row in rows], knn) for name in names}}


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1; tied values share the mean of theirs."""
    array = np.asarray(values, dtype=float)
    below, tied = (array[:, None] > array).sum(1), (array[:, None] == array).sum(1)
    return np.asarray(below + (tied + 1) / 2)


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's correlation: Pearson's of the ranks. None where one side is constant."""
    x, y = (ranks(side) - (len(side) + 1) / 2 for side in (a, b))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else None
