"""Slow, plain float64 reference of the image-retrieval metrics, and of their mean over all orders of tied items."""

from itertools import combinations, product
from math import log2

# Every metric takes `order`: whether the item at rank 1, 2, ... of the whole gallery is relevant to the one query, best
# first, with at least one relevant item. R is the number of relevant items.


def precision_at(order, k):
    """The part of the first k that is relevant, k cut to the length of the gallery (Manning et al. 2008, 8.4)."""
    k = min(k, len(order))
    return sum(order[:k]) / k


def hit_at(order, k):
    """1.0 if one of the first k is relevant: the "recall@k" of Jegou et al. 2011 (PQ) and Oh Song et al. 2016."""
    return 1.0 if any(order[:k]) else 0.0


def recall_at(order, k):
    """The part of all R relevant items that is among the first k (Manning et al. 2008, 8.3)."""
    return sum(order[:k]) / sum(order)


def r_precision(order):
    """The precision at R (Manning et al. 2008, 8.4)."""
    return precision_at(order, sum(order))


def map_at_r(order):
    """One query of MAP@R (Musgrave, Belongie & Lim 2020): 1/R sum_{i=1..R} of precision at i where i is relevant."""
    r = sum(order)
    total = 0.0
    for i in range(1, r + 1):
        if order[i - 1]:
            total += precision_at(order, i)
    return total / r


def average_precision(order):
    """The mean over the relevant items of the precision at their rank (Manning et al. 2008, eq. 8.8)."""
    total = 0.0
    for i in range(1, len(order) + 1):
        if order[i - 1]:
            total += precision_at(order, i)
    return total / sum(order)


def average_precision_trapezoid(order):
    """The area under precision-recall by trapezoids: compute_ap of revisited Oxford/Paris (Radenovic et al. 2018)."""
    r = sum(order)
    total = 0.0
    found = 0
    for rank in range(len(order)):  # from 0
        if order[rank]:
            before = found / rank if rank > 0 else 1.0
            after = (found + 1) / (rank + 1)
            total += (before + after) / 2
            found += 1
    return total / r


def reciprocal_rank(order):
    """One over the rank of the first relevant item (Voorhees 1999, TREC-8 question answering)."""
    return 1 / (list(order).index(True) + 1)


def dcg(order):
    """Sum of 1 / log2(1 + rank) over the relevant items: gains 0 and 1, the discount of Burges et al. 2005."""
    total = 0.0
    for i in range(1, len(order) + 1):
        if order[i - 1]:
            total += 1 / log2(1 + i)
    return total


def ndcg(order):
    """DCG over that of the best order (Jarvelin & Kekalainen 2002), whole gallery, discount log2(1 + rank)."""
    return dcg(order) / dcg(sorted(order, reverse=True))


def nmrr(order, largest):
    """MPEG-7's normalised modified retrieval rank (Manjunath et al. 2001); largest: the largest R of all queries.

    0 is best, 1 is worst; K >= 2 R, so the R relevant items always fit within K. ANMRR is the mean over queries.
    """
    r = sum(order)
    limit = min(4 * r, 2 * largest)
    total = 0.0
    for i in range(1, len(order) + 1):
        if order[i - 1]:
            total += i if i <= limit else 1.25 * limit
    best = 0.5 * (1 + r)
    return (total / r - best) / (1.25 * limit - best)


def placements(size, count):
    """Every way to place count relevant items among size tied ones: all equally likely if every order of them is."""
    return [[i in chosen for i in range(size)] for chosen in combinations(range(size), count)]


def expected(metric, scores, relevant):
    """The mean of metric(order) over all orders that sort the scores from high to low, ties in every possible order.

    By enumeration (small galleries only) of the average over tied orders of McSherry & Najork 2008. The scores are
    plain numbers, without NaN; relevant are booleans in the same order.
    """
    groups = []
    for score in sorted(set(scores), reverse=True):
        tied = [bool(flag) for other, flag in zip(scores, relevant, strict=True) if other == score]
        groups.append(placements(len(tied), sum(tied)))
    total = 0.0
    count = 0
    for parts in product(*groups):
        order = [flag for part in parts for flag in part]
        assert len(order) == len(scores)  # NaN, or numbers that do not hash by value, would break the grouping
        total += metric(order)
        count += 1
    return total / count
