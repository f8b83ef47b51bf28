"""kNN with faiss: one exact search, weighted votes with a rule for ties, and recall."""

from collections.abc import Sequence
from math import exp
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from .errors import UserError
from .splits import whole_numbers

KS = (1, 5, 20, 200)
RECALL_AT = (1, 5, 10)
TEMPERATURE = 0.07
TIE = 1e-6  # similarities no further apart than this count as equal
SPARE = 16  # neighbours searched beyond the largest k, to see where a tie ends
CHUNK = 256  # queries voted on at a time

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def knn(
    bank: npt.ArrayLike,
    bank_labels: npt.ArrayLike,
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    recall_at: Sequence[int] = RECALL_AT,
) -> dict[str, dict[str, float]]:
    """kNN accuracy and retrieval recall: ``{"knn": {"k1": ...}, "recall": {"r1": ...}}``, in [0, 1].

    bank [N, D] and queries [M, D] are l2-normalised here; labels [N] and [M] are whole numbers. A neighbour at cosine
    similarity s votes exp(s / temperature) for its class (Wu et al. 2018, section 3.4). The result depends on no order
    of rows: rows within 1e-6 of the k-th similarity share the votes that remain, and of m classes with equal votes the
    right one earns 1/m. So an embedding whose rows are all equal votes the bank's class prior. recall@K is the chance
    that at least one of the first K, ties in random order, has the query's class. A k beyond the bank takes all of it.
    """
    b, q = unit_rows("bank", bank), unit_rows("queries", queries)
    bl, ql = whole_numbers("The bank's labels", bank_labels), whole_numbers("The queries' labels", query_labels)
    if b.shape[1] != q.shape[1]:
        raise UserError(f"The bank has {b.shape[1]} columns and the queries {q.shape[1]}; embed both with one encoder.")
    if len(bl) != len(b) or len(ql) != len(q):
        raise UserError(f"{len(b)} and {len(q)} rows have {len(bl)} and {len(ql)} labels; give one label per row.")
    if any(k < 1 for k in (*ks, *recall_at)) or not temperature > 0:
        raise UserError("k has to be at least 1 and the temperature above 0.")
    classes, codes = np.unique(np.concatenate([bl, ql]), return_inverse=True)
    bl, ql = codes[: len(bl)].astype(np.int64), codes[len(bl) :].astype(np.int64)
    most = min(max([*ks, *recall_at]), len(b))
    similar, near = search(b, q, min(most + SPARE, len(b)))
    open_ended = (similar[:, most - 1] - similar[:, -1] <= 2 * TIE) & (similar.shape[1] < len(b))
    right = {k: np.zeros(len(q)) for k in ks}
    found = {k: np.zeros(len(q)) for k in recall_at}
    for whole in (False, True):  # queries whose tie goes on beyond what was searched look at the whole bank
        rows = np.flatnonzero(open_ended == whole)
        size = max(1, 8_000_000 // len(b)) if whole else CHUNK
        for part in np.array_split(rows, max(1, -(-len(rows) // size))):
            s = q[part] @ b.T if whole else similar[part]
            labels = np.broadcast_to(bl, s.shape) if whole else bl[near[part]]
            for k in {*ks, *recall_at}:
                share, upto = shares(s, similar[part, min(k, len(b)) - 1], min(k, len(b)))
                if k in right:
                    right[k][part] = vote(s[:, :upto], share, labels[:, :upto], ql[part], temperature, len(classes))
                if k in found:
                    found[k][part] = hit(share, labels[:, :upto] == ql[part, None])
    return {
        "knn": {f"k{k}": float(right[k].mean()) for k in ks},
        "recall": {f"r{k}": float(found[k].mean()) for k in recall_at},
    }


def unit_rows(name: str, rows: npt.ArrayLike) -> Floats:
    """Float32 rows of length 1; zero rows stay. Raises `UserError` for what is no matrix of finite numbers."""
    x = np.ascontiguousarray(rows, dtype=np.float32)
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"{name} has shape {list(x.shape)}; it has to be [rows, columns], neither empty.")
    unit, norms = np.empty_like(x), np.empty(len(x))
    for i in range(0, len(x), CHUNK):  # what fits the cache, in float64
        part = x[i : i + CHUNK].astype(np.float64)
        norms[i : i + CHUNK] = norm = np.sqrt(np.einsum("nd,nd->n", part, part))
        with np.errstate(invalid="ignore"):
            np.divide(part, np.where(norm == 0, 1, norm)[:, None], out=unit[i : i + CHUNK], casting="same_kind")
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise UserError(f"{name} has {len(bad)} rows that are not finite, the first at {bad[0]}; check the encoder.")
    return unit


def search(bank: Floats, queries: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest inner products of each query with the bank and their rows, largest first; exact."""
    similar, near = faiss.knn(queries, bank, k, metric=faiss.METRIC_INNER_PRODUCT)  # an index would copy the bank
    return similar, near


def shares(similar: Floats, kth: Floats, k: int) -> tuple[npt.NDArray[np.float64], int]:
    """How much of each row [Q, R] counts among the k nearest, and up to which column any does.

    1 above the tie at the k-th similarity [Q], an equal share within it.
    """
    kth = kth[:, None]
    reach = similar >= kth - TIE
    upto = int(np.flatnonzero(reach.any(axis=0)).max(initial=0)) + 1
    above = similar[:, :upto] > kth + TIE
    tied = ~above & reach[:, :upto]
    share = (k - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    return above + tied * share, upto


def vote(
    similar: Floats, share: npt.NDArray[np.float64], labels: Ints, truth: Ints, temperature: float, classes: int
) -> npt.NDArray[np.float64]:
    """What each query earns: 1 where its class alone has the most votes, 1/m where m classes have, 0 elsewhere."""
    top = similar.max(axis=1, keepdims=True).astype(np.float64)
    weights = share * np.exp((similar - top) / temperature)
    rows = np.arange(len(similar))[:, None] * classes
    votes = np.bincount((rows + labels).ravel(), weights.ravel(), len(similar) * classes).reshape(-1, classes)
    winners = votes >= votes.max(axis=1, keepdims=True) * exp(-TIE / temperature)
    earned: npt.NDArray[np.float64] = winners[np.arange(len(truth)), truth] / winners.sum(axis=1)
    return earned


def hit(share: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The chance that one of the first k is of the same class, where tied rows come in random order."""
    sure = (same & (share == 1)).any(axis=1)
    tied = (share > 0) & (share < 1)
    drawn = np.rint((share * tied).sum(axis=1)).astype(np.int64)
    pool, good = tied.sum(axis=1), (tied & same).sum(axis=1)
    missed = np.ones(len(share))
    for i in range(int(drawn.max(initial=0))):  # none of the class in any draw without replacement
        now = i < drawn
        missed = np.where(now, missed * np.clip((pool - good - i) / np.maximum(pool - i, 1), 0, None), missed)
    return np.where(sure, 1.0, 1.0 - missed)


def protocol(ks: Sequence[int], temperature: float) -> dict[str, Any]:
    """What the numbers mean, for the output."""
    return {
        "bank": "whole training split, no augmentation, eval mode",
        "features": "l2-normalised",
        "index": "faiss IndexFlatIP (exact)",
        "weights": "exp(similarity / temperature)",
        "k": list(ks),
        "temperature": temperature,
        "ties": "rows within 1e-6 of the k-th similarity share its votes; m equal classes earn 1/m",
    }
