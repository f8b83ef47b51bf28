"""The nearest rows: searched for in float32 and, where that cannot tell rows apart, compared in float64."""

from collections.abc import Sequence

import numpy as np

from . import index
from .precise import SINGLE, best_of_bank, error, in_order, of_columns, of_pairs
from .task import Bools, Doubles, Floats, Ints, Neighbours, Search, Task

SPARE = 16  # neighbours searched beyond the largest k, to see which rows may belong to the nearest
CHUNK = 256  # queries at a time
CELLS = 8_000_000  # similarities of whole banks at a time
FEWEST = 64  # queries at a time, for which a whole bank is widened


def nearest(
    bank: Floats, queries: Floats, k: int, excluded: Ints | None = None, search: Search | None = None
) -> Neighbours:
    """Return the k nearest rows of each query and `SPARE` more, less its excluded one where it has one.

    ``search`` is another one than the exact; a column that it leaves empty has the row -1, and a similarity below all.
    """
    similar, near = (search or index.search)(bank, queries, min(k + SPARE + (excluded is not None), len(bank)))
    return (similar, near) if excluded is None else without(similar, near, excluded)


def without(similar: Floats, near: Ints, excluded: Ints) -> Neighbours:
    """Return neighbours less each query's excluded row, or less the last where that is not among them."""
    mine = near == excluded[:, None]
    mine[:, -1] |= ~mine.any(axis=1)
    shape = (len(near), near.shape[1] - 1)
    return similar[~mine].reshape(shape), near[~mine].reshape(shape)


def ranked(task: Task, k: int, neighbours: Neighbours | None = None) -> tuple[Doubles, Ints]:
    """Return the similarities and rows [Q, k] of the k nearest, in the order of float64, the nearest first.

    ``neighbours`` are what `nearest` gave for k or more, where that is known already.
    """
    k = min(k, task.candidates)
    if neighbours is None:
        neighbours = nearest(task.bank, task.queries, k, task.excluded, task.search)
    similar, rows = np.empty((len(task.queries), k)), np.empty((len(task.queries), k), np.int64)
    beyond = open_ended(task, neighbours[0], k)
    for whole in (False, True):
        for part in parts(np.flatnonzero(beyond == whole), len(task.bank) if whole else 0):
            near = neighbours[1][part]
            found = best_of_bank(task, part, k) if whole else in_order(of_columns(task, part, near), near)
            similar[part], rows[part] = found[0][:, :k], found[1][:, :k]
    return similar, rows


def parts(chosen: Ints, rows: int) -> list[Ints]:
    """Return the chosen queries in parts, fewer at a time where each has ``rows`` similarities; no part is empty."""
    size = max(FEWEST, CELLS // rows) if rows else CHUNK
    return [chosen[start : start + size] for start in range(0, len(chosen), size)]


def open_ended(task: Task, similar: Floats, k: int) -> Bools:
    """Return for which queries [Q] a row that was not searched may be among the k nearest, or tied with one."""
    beyond: Bools = similar[:, k - 1] - similar[:, -1] <= 2 * error(task.bank.shape[1], SINGLE)
    return beyond if similar.shape[1] < task.candidates else np.zeros_like(beyond)


def settled(task: Task, part: Ints, neighbours: Neighbours, ks: Sequence[int]) -> tuple[Doubles, Ints]:
    """Return the neighbours of queries ``part``, in such an order that the first k are the nearest, for each k.

    Similarities are float64's where float32 cannot tell which side of the k-th a row is on, and float32's elsewhere.
    """
    similar, near = neighbours[0][part].astype(np.float64), neighbours[1][part]
    unsure = np.zeros(similar.shape, bool)
    for k in ks:
        if k < task.candidates:
            close = np.abs(similar - similar[:, k - 1 : k]) <= 2 * error(task.bank.shape[1], SINGLE)
            unsure |= close & (close.sum(axis=1, keepdims=True) > 1)
    query, column = np.nonzero(unsure)
    similar[query, column] = of_pairs(task, part[query], near[query, column])
    changed = np.unique(query)
    similar[changed], near[changed] = in_order(similar[changed], near[changed])
    return similar, near
