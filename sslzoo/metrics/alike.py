"""What is too near and what is too far: groups of nearly equal rows, and rows that lie away from all others."""

from collections.abc import Callable

import numpy as np

from .neighbours import ranked
from .precise import tie, unit
from .rows import unit_rows
from .task import Doubles, Ints, Rows, Search, Task

EQUAL = 1 - 1e-6  # the cosine of rows that are one: beyond what rounding in float32 makes of one image
FEWEST, MOST, SHARE = 5, 20, 50  # neighbours by which rows are outliers: one in so many, scikit-learn's 20 at most
AT_ONCE = 4096  # rows whose neighbours are searched between two signs of progress
CELLS, FEW_ROWS = 8_000_000, 64  # similarities at a time, and the fewest rows
TINY = 1e-10  # which scikit-learn adds to distances that it divides by


def surroundings(
    name: str, rows: Rows, search: Search | None = None, progress: Callable[[int], None] = lambda _: None
) -> tuple[Doubles, Ints]:
    """Return the cosines, in float64, of the k nearest other rows of each of the rows [N, D], and these rows [N, k].

    k is that of `factors`; ``progress`` hears how many rows are done. Raises `UserError` for rows that are not finite.
    """
    narrow, nobody = unit_rows(name, rows), np.zeros(len(rows), np.int64)
    k = min(max(FEWEST, min(MOST, len(rows) // SHARE)), len(rows) - 1)
    similar, near = np.empty((len(rows), k)), np.empty((len(rows), k), np.int64)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        own = np.arange(len(rows))[part]
        task = Task(narrow, nobody, narrow[part], nobody[part], own, search, (rows, rows[part]))
        similar[part], near[part] = ranked(task, k)
        progress(int(own[-1]) + 1)
    return similar, near


def linked(rows: Rows, nearest: Doubles, least: float) -> Ints:
    """Return for each of the rows [N, D] the first one that it is linked with, itself where it is alone.

    Two are linked whose cosine is ``least`` or more, and so are those that are linked with one and the same.
    ``nearest`` [N] is each row's cosine to the row nearest to it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    least -= tie(rows.shape[1])
    chosen = np.flatnonzero(nearest >= least)
    x, root = unit(rows[chosen]), np.arange(len(chosen))  # of each the first that it is linked with so far
    size = max(FEW_ROWS, CELLS // max(len(chosen), 1))
    for start in range(0, len(chosen), size):
        a, b = np.nonzero(x[start : start + size] @ x[start:].T >= least)
        heads, tails = root[a + start], root[b + start]
        new = heads != tails  # the others are linked already: of equal rows nearly all
        heads, tails = np.append(heads[new], np.arange(len(root))), np.append(tails[new], root)
        graph = coo_array((np.ones(len(heads), bool), (heads, tails)), shape=(len(root), len(root)))
        _, place, part = np.unique(connected_components(graph, False)[1], return_index=True, return_inverse=True)
        root = place[part]
    first = np.arange(len(rows))
    first[chosen] = chosen[root]
    return first


def factors(similar: Doubles, near: Ints) -> Doubles:
    """Return the local outlier factors [N] of rows of length 1 (Breunig et al. 2000), about 1 for a row amid others.

    ``similar`` [N, k] are the cosines of the nearest other rows, and ``near`` [N, k] these rows.
    """
    distances = np.sqrt(np.maximum(2 - 2 * similar, 0))
    reach = np.maximum(distances[near, -1], distances)
    density = 1 / (reach.mean(axis=1) + TINY)
    found: Doubles = density[near].mean(axis=1) / density
    return found


def outlier_factors(name: str, rows: Rows, around: tuple[Doubles, Ints], search: Search | None = None) -> Doubles:
    """Return the local outlier factors [N] of rows, where equal ones count once, or their density would be infinite.

    ``around`` is what `surroundings` gave for them.
    """
    first = linked(rows, around[0][:, 0], EQUAL)
    kept, place = np.unique(first, return_inverse=True)
    if len(kept) == len(rows):
        return factors(*around)
    if len(kept) < 2:
        return np.ones(len(rows))
    return factors(*surroundings(name, rows[kept], search))[place]
