"""Retrieval metrics of whole rankings; where rows are tied, their expected value over all orders of the tied ones."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

RESOLUTION = 2.5e-7  # similarities no further apart than this are one number in float32: their rows are tied
CELLS = 1_000_000  # similarities held at a time: few, so that the memory for them is used again
LOWEST = -2.0  # below any cosine: a query's own row

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.bool_]  # a class per row [N], or which labels a row has [N, C]


def retrieval(
    bank: Floats,
    bank_labels: Labels,
    queries: Floats,
    query_labels: Labels,
    at: Sequence[int] = (1, 5, 10),
    own: Ints | None = None,
    largest: int | None = None,
) -> dict[str, Doubles]:
    """Each metric of each query [Q]; nan for a query without a positive, a row of its class or that shares a label.

    bank [N, D] and queries [Q, D] have rows of length 1; ``own`` [Q] is each query's own row, which its ranking leaves
    out. ``recall@k`` is the chance of a positive among the first k (metric learning's recall), ``precision@k`` their
    part, ``r_precision`` that among as many rows as there are positives; ``map@r`` as in Musgrave et al. 2020, eq. 3;
    ``map`` the standard average precision, ``map_revisited`` that of Radenovic et al. 2018, by trapezoids; ``mrr`` the
    first positive's reciprocal rank; ``ndcg`` with binary gains over the whole ranking discounted by log2(1 + rank);
    ``anmrr`` MPEG-7's normalised rank, of which 0 is the best; ``largest`` is its most positives of any query, by
    default of these.
    """
    if largest is None:
        largest = most_positives(bank_labels, query_labels, own)
    found = []
    for part in blocks(len(queries), len(bank)):
        similar = queries[part] @ bank.T
        if own is not None:
            similar[np.arange(len(similar)), own[part]] = LOWEST
        same = relevant(query_labels[part], bank_labels, None if own is None else own[part])
        found.append(metrics(similar, same, at, largest, len(bank) - (own is not None)))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def most_positives(bank_labels: Labels, query_labels: Labels, own: Ints | None) -> int:
    """The most positives that any query has."""
    if bank_labels.ndim == 1:
        classes, sizes = np.unique(bank_labels, return_counts=True)
        return int(sizes[np.isin(classes, query_labels)].max(initial=0)) - (own is not None)
    parts = blocks(len(query_labels), len(bank_labels))
    each = (relevant(query_labels[x], bank_labels, None if own is None else own[x]) for x in parts)
    return max(int(positive.sum(axis=1).max()) for positive in each)


def blocks(queries: int, rows: int) -> Iterator[slice]:
    """Parts of the queries whose similarities to all rows fit memory."""
    size = max(1, CELLS // rows)
    return (slice(start, start + size) for start in range(0, queries, size))


def relevant(query_labels: Labels, bank_labels: Labels, own: Ints | None) -> npt.NDArray[np.bool_]:
    """Which rows [Q, N] are positives of a query: of its class, or with a label that it has too; never its own row."""
    if query_labels.ndim == 1:
        found: npt.NDArray[np.bool_] = query_labels[:, None] == bank_labels
    else:
        found = (query_labels.astype(np.float32) @ bank_labels.T.astype(np.float32)) > 0
    if own is not None:
        found[np.arange(len(found)), own] = False
    return found


def metrics(
    similar: Floats, positive: npt.NDArray[np.bool_], at: Sequence[int], largest: int, gallery: int
) -> dict[str, Doubles]:
    """The metrics of rows of similarities [Q, N]; ``largest`` is the most positives of any query, for ANMRR."""
    queries, count = len(similar), positive.sum(axis=1)
    query, rank, chance, above, first = positions(similar, positive)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = (above + 1) / rank  # at this rank, if a positive stands there
        before = np.where(rank > 1, above / (rank - 1), 1.0)  # at the rank above

        def over(weights: Doubles) -> Doubles:
            return np.bincount(query, weights, queries).astype(np.float64)

        def summed(values: Doubles, where: npt.NDArray[np.bool_] | None = None) -> Doubles:
            weights = chance * values if where is None else chance * values * where
            return over(weights)

        ones, needed = np.ones(len(rank)), count[query]
        discounts = np.append(0, np.cumsum(1 / np.log2(np.arange(2, similar.shape[1] + 2))))
        bound = np.minimum(4 * count, 2 * largest)
        late = np.where(rank <= bound[query], rank, 1.25 * bound[query])
        found = {f"recall@{k}": over(first * (rank <= k)) for k in at}
        found |= {f"precision@{k}": summed(ones, rank <= k) / min(k, gallery) for k in at}
        found |= {
            "r_precision": summed(ones, rank <= needed) / count,
            "map@r": summed(precision, rank <= needed) / count,
            "map": summed(precision) / count,
            "map_revisited": summed((before + precision) / 2) / count,
            "mrr": over(first / rank),
            "ndcg": summed(1 / np.log2(1 + rank)) / discounts[count],
            "anmrr": (summed(late) / count - 0.5 * (1 + count)) / (1.25 * bound - 0.5 * (1 + count)),
        }
    return {name: np.where(count > 0, values, np.nan) for name, values in found.items()}


def positions(similar: Floats, positive: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, Doubles, Doubles, Doubles]:
    """Every place of a ranking where a positive may stand, over all queries.

    For each: its query and its rank from 1; the chance of a positive there; how many positives stand above it, expected
    if one stands there; and the chance that the query's first positive stands there. A run of n tied rows with r
    positives is n such places, each with the chance r / n.
    """
    rows, width = similar.shape
    order = np.argsort(-similar, axis=1)
    ranked, hits = np.take_along_axis(similar, order, 1), np.take_along_axis(positive, order, 1)
    starts = np.ones((rows, width), dtype=bool)
    starts[:, 1:] = ranked[:, :-1] - ranked[:, 1:] > RESOLUTION
    flat, sizes = runs(ranked.ravel(), starts.ravel())
    inside = np.add.reduceat(hits.ravel(), flat, dtype=np.int64)
    so_far = np.cumsum(inside) - inside  # positives above a run, those of earlier queries included
    flat, sizes, inside, so_far = (x[inside > 0] for x in (flat, sizes, inside, so_far))
    query = flat // width
    earlier = so_far - np.append(0, np.cumsum(positive.sum(axis=1)))[query]  # positives of the query above the run

    run = np.repeat(np.arange(len(flat)), sizes)
    within = np.arange(len(run)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # places of the run above this one
    n, r = sizes[run], inside[run]
    above = earlier[run] + within * (r - 1) / np.maximum(n - 1, 1)
    missed = np.where(n - within > 0, (n - within - r) / (n - within), 0.0).clip(0)  # no positive here, none above
    none_above = _products(missed, within == 0)
    first = np.where(earlier[run] == 0, none_above * r / (n - within), 0.0).clip(0, 1)
    return query[run], flat[run] % width + within + 1, r / n, above, first


def runs(ranked: Floats, starts: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Where runs of tied similarities begin, counted through all queries, and their sizes.

    ``starts`` is where the next similarity is further away. A run is no wider than the resolution: a dense ranking, in
    which each row is near the next, is cut from the run's first row on.
    """
    flat = np.flatnonzero(starts)
    sizes = np.diff(np.append(flat, len(ranked)))
    wide = ranked[flat] - ranked[flat + sizes - 1] > RESOLUTION
    if wide.any():
        run = np.repeat(np.flatnonzero(wide), sizes[wide])
        place = flat[run] + np.arange(len(run)) - np.repeat(np.cumsum(sizes[wide]) - sizes[wide], sizes[wide])
        step = np.floor((ranked[flat[run]].astype(np.float64) - ranked[place]) / RESOLUTION)
        cut = np.zeros(len(ranked), dtype=bool)
        cut[place[1:]] = step[1:] != step[:-1]
        flat = np.flatnonzero(starts | cut)
        sizes = np.diff(np.append(flat, len(ranked)))
    return flat, sizes


def _products(factors: Doubles, starts: npt.NDArray[np.bool_]) -> Doubles:
    """The product of the factors before each, within its run."""
    found = np.ones(len(factors))
    begins = np.flatnonzero(starts)
    ends = np.append(begins[1:], len(factors))
    tied = ends - begins > 1
    for begin, end in zip(begins[tied], ends[tied], strict=True):
        found[begin + 1 : end] = np.cumprod(factors[begin : end - 1])
    return found
