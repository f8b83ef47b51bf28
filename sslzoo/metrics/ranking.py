"""Retrieval metrics of whole rankings; where rows are tied, their expected value over all orders of the tied ones."""

from collections.abc import Iterator, Sequence

import numpy as np

from .precise import of_bank, tie
from .task import Bools, Doubles, Ints, Labels, Task

CELLS = 1_000_000  # similarities sorted at a time: few, so that the memory for them is used again
HELD = 16  # times as many are computed at a time: the bank is widened once for them


def retrieval(task: Task, at: Sequence[int] = (1, 5, 10), largest: int | None = None) -> dict[str, Doubles]:
    """Return each metric of each query [Q]; nan for a query without a positive.

    A positive is a row of the query's class, or one that shares a label with it; a query's excluded row is none and has
    no rank. ``recall@k`` is the chance of a positive among the first k (metric learning's recall), ``precision@k``
    their part, ``r_precision`` that among as many rows as there are positives; ``map@r`` as in Musgrave et al. 2020,
    eq. 3; ``map`` the standard average precision, ``map_revisited`` that of Radenovic et al. 2018, by trapezoids;
    ``mrr`` the first positive's reciprocal rank; ``ndcg`` with binary gains over the whole ranking discounted by
    log2(1 + rank); ``anmrr`` MPEG-7's normalised rank, of which 0 is the best; ``largest`` is its most positives of any
    query, by default of these.
    """
    if largest is None:
        largest = most_positives(task)
    parts, resolution, everybody = [], tie(task.bank.shape[1]), np.arange(len(task.queries))
    for some in blocks(len(task.queries), len(task.bank), HELD * CELLS):
        held = of_bank(task, everybody[some])
        for one in blocks(len(held), len(task.bank), CELLS):
            part = everybody[some][one]
            excluded = None if task.excluded is None else task.excluded[part]
            positive = positives(task.query_labels[part], task.bank_labels, excluded)
            parts.append(metrics(held[one], positive, at, largest, task.candidates, resolution))
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def most_positives(task: Task) -> int:
    """Return the most positives that any query has."""
    bank_labels, query_labels, excluded = task.bank_labels, task.query_labels, task.excluded
    if not task.multi_label:
        classes, sizes = np.unique(bank_labels, return_counts=True)
        return int(sizes[np.isin(classes, query_labels)].max(initial=0)) - (excluded is not None)
    parts = blocks(len(query_labels), len(bank_labels), CELLS)
    each = (positives(query_labels[x], bank_labels, None if excluded is None else excluded[x]) for x in parts)
    return max(int(positive.sum(axis=1).max()) for positive in each)


def blocks(queries: int, rows: int, cells: int) -> Iterator[slice]:
    """Return parts of the queries that have so many similarities to all rows, or little more."""
    size = max(1, cells // rows)
    return (slice(start, start + size) for start in range(0, queries, size))


def positives(query_labels: Labels, bank_labels: Labels, excluded: Ints | None) -> Bools:
    """Return which rows [Q, N] are positives of a query: of its class, or with a label that it has too.

    A query's excluded row is never one.
    """
    if query_labels.ndim == 1:
        positive: Bools = query_labels[:, None] == bank_labels
    else:
        positive = (query_labels.astype(np.float32) @ bank_labels.T.astype(np.float32)) > 0
    if excluded is not None:
        positive[np.arange(len(positive)), excluded] = False
    return positive


def metrics(
    similar: Doubles, positive: Bools, at: Sequence[int], largest: int, gallery: int, resolution: float
) -> dict[str, Doubles]:
    """Return the metrics of rows of similarities [Q, N] that count ``gallery`` rows.

    ``largest`` is the most positives of any query, for ANMRR; rows no further apart than ``resolution`` are tied.
    """
    queries, count = len(similar), positive.sum(axis=1)
    query, rank, chance, above, first = positions(similar, positive, resolution)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (above + 1) / rank  # at this rank, if a positive stands there
        before = np.where(rank > 1, above / (rank - 1), 1.0)  # at the rank above

        def over(weights: Doubles) -> Doubles:
            return np.bincount(query, weights, queries).astype(np.float64)

        def summed(gains: Doubles, where: Bools | None = None) -> Doubles:
            weights = chance * gains if where is None else chance * gains * where
            return over(weights)

        ones, needed = np.ones(len(rank)), count[query]
        discounts = np.append(0, np.cumsum(1 / np.log2(np.arange(2, similar.shape[1] + 2))))
        bound = np.minimum(4 * count, 2 * largest)
        late = np.where(rank <= bound[query], rank, 1.25 * bound[query])
        values = {f"recall@{k}": over(first * (rank <= k)) for k in at}
        values |= {f"precision@{k}": summed(ones, rank <= k) / min(k, gallery) for k in at}
        values |= {
            "r_precision": summed(ones, rank <= needed) / count,
            "map@r": summed(precision, rank <= needed) / count,
            "map": summed(precision) / count,
            "map_revisited": summed((before + precision) / 2) / count,
            "mrr": over(first / rank),
            "ndcg": summed(1 / np.log2(1 + rank)) / discounts[count],
            "anmrr": (summed(late) / count - 0.5 * (1 + count)) / (1.25 * bound - 0.5 * (1 + count)),
        }
    return {name: np.where(count > 0, each, np.nan) for name, each in values.items()}


def positions(similar: Doubles, positive: Bools, resolution: float) -> tuple[Ints, Ints, Doubles, Doubles, Doubles]:
    """Return every rank at which a positive may stand, over all queries.

    For each: its query and the rank from 1; the chance of a positive there; how many positives stand above it, expected
    if one stands there; and the chance that the query's first positive stands there. A run of n tied rows with r
    positives is n such ranks, each with the chance r / n.
    """
    rows, width = similar.shape
    order = np.argsort(-similar, axis=1)
    ranked, hits = np.take_along_axis(similar, order, 1), np.take_along_axis(positive, order, 1)
    starts = np.ones((rows, width), dtype=bool)
    starts[:, 1:] = ranked[:, :-1] - ranked[:, 1:] > resolution
    flat, sizes = runs(ranked.ravel(), starts.ravel(), resolution)
    inside = np.add.reduceat(hits.ravel(), flat, dtype=np.int64)
    so_far = np.cumsum(inside) - inside  # positives above a run, those of earlier queries included
    flat, sizes, inside, so_far = (x[inside > 0] for x in (flat, sizes, inside, so_far))
    query = flat // width
    earlier = so_far - np.append(0, np.cumsum(positive.sum(axis=1)))[query]  # positives of the query above the run

    run = np.repeat(np.arange(len(flat)), sizes)
    within = np.arange(len(run)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # ranks of the run above this one
    n, r = sizes[run], inside[run]
    above = earlier[run] + within * (r - 1) / np.maximum(n - 1, 1)
    missed = np.where(n - within > 0, (n - within - r) / (n - within), 0.0).clip(0)  # no positive here, none above
    none_above = _products(missed, within == 0)
    first = np.where(earlier[run] == 0, none_above * r / (n - within), 0.0).clip(0, 1)
    return query[run], flat[run] % width + within + 1, r / n, above, first


def runs(ranked: Doubles, starts: Bools, resolution: float) -> tuple[Ints, Ints]:
    """Return where runs of tied similarities begin, counted through all queries, and their sizes.

    ``starts`` is where the next similarity is further away. A run is no wider than the resolution: a dense ranking, in
    which each row is near the next, is cut from the run's first row on.
    """
    flat = np.flatnonzero(starts)
    sizes = np.diff(np.append(flat, len(ranked)))
    wide = ranked[flat] - ranked[flat + sizes - 1] > resolution
    if wide.any():
        run = np.repeat(np.flatnonzero(wide), sizes[wide])
        member = flat[run] + np.arange(len(run)) - np.repeat(np.cumsum(sizes[wide]) - sizes[wide], sizes[wide])
        step = np.floor((ranked[flat[run]] - ranked[member]) / resolution)
        cut = np.zeros(len(ranked), dtype=bool)
        cut[member[1:]] = step[1:] != step[:-1]
        flat = np.flatnonzero(starts | cut)
        sizes = np.diff(np.append(flat, len(ranked)))
    return flat, sizes


def _products(factors: Doubles, starts: Bools) -> Doubles:
    """Return the product of the factors before each, within its run."""
    products = np.ones(len(factors))
    begins = np.flatnonzero(starts)
    ends = np.append(begins[1:], len(factors))
    tied = ends - begins > 1
    for begin, end in zip(begins[tied], ends[tied], strict=True):
        products[begin + 1 : end] = np.cumprod(factors[begin : end - 1])
    return products
