"""kNN: weighted votes of the nearest rows with a rule for ties, and recall; the search is that of `index`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, inf
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ..tools.bounds import whole_numbers
from ..tools.errors import UserError
from . import index
from .task import Bools, Doubles, Floats, Ints, Neighbours, Search, Task

KS = (1, 5, 20, 200)
RECALL_AT = (1, 5, 10)
TEMPERATURE = 0.07
COLDEST = 0.001  # below it votes are those of the nearest alone, and ties beyond float's reach
TIE = 1e-6  # similarities no further apart than this count as equal
SPARE = 16  # neighbours searched beyond the largest k, to see where a tie ends
CHUNK = 256  # queries voted on at a time
WEIGHTS = ("exp", "uniform")


@dataclass(frozen=True)
class Judged:
    """Holds what each query earns [Q], by k.

    ``top1`` is the chance that its class wins the votes of k neighbours, ``top5`` that it is among the five with the
    most votes, and ``recall`` that one of the first k neighbours is of its class.
    """

    top1: dict[int, Doubles]
    top5: dict[int, Doubles]
    recall: dict[int, Doubles]


def knn(
    bank: npt.ArrayLike,
    bank_labels: npt.ArrayLike,
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    *,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    recall_at: Sequence[int] = RECALL_AT,
    weights: str = "exp",
    device: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Return kNN accuracy and retrieval recall: ``{"knn": {"k1": ...}, "recall": {"r1": ...}}``, in [0, 1].

    ``bank`` [N, D] and ``queries`` [M, D] are l2-normalised here; ``bank_labels`` [N] and ``query_labels`` [M] are
    whole numbers; ``ks`` and ``recall_at`` are the numbers of neighbours. A neighbour at cosine similarity s votes
    exp(s / ``temperature``) for its class (Wu et al. 2018, section 3.4), or one vote with ``weights`` "uniform". The
    result depends on no order of rows: rows within 1e-6 of the k-th similarity share the votes that remain, and of m
    classes with equal votes the right one earns 1/m. So an embedding whose rows are all equal votes the bank's class
    prior. recall@K is the chance that at least one of the first K, ties in random order, has the query's class. A k
    beyond the bank takes all of it. The search is faiss', or torch's where ``device`` is a GPU.
    """
    b, q = unit_rows("bank", bank), unit_rows("queries", queries)
    bl, ql = whole_numbers("The bank's labels", bank_labels), whole_numbers("The queries' labels", query_labels)
    check(b, bl, q, ql)
    if any(k < 1 for k in (*ks, *recall_at)) or not COLDEST <= temperature < inf:
        raise UserError(f"k has to be at least 1 and the temperature at least {COLDEST}, and finite.")
    task = Task(b, bl, q, ql, search=index.Exact(device))
    judged = judge(task, ks, temperature, recall_at, weights)
    return {
        "knn": {f"k{k}": float(judged.top1[k].mean()) for k in ks},
        "recall": {f"r{k}": float(judged.recall[k].mean()) for k in recall_at},
    }


def check(bank: Floats, bank_labels: npt.NDArray[Any], queries: Floats, query_labels: npt.NDArray[Any]) -> None:
    """Raise `UserError` for a bank and queries that do not belong together."""
    if bank.shape[1] != queries.shape[1]:
        raise UserError(
            f"The bank has {bank.shape[1]} columns and the queries {queries.shape[1]}; embed both with one encoder."
        )
    if len(bank_labels) != len(bank) or len(query_labels) != len(queries):
        raise UserError(
            f"{len(bank)} and {len(queries)} rows have {len(bank_labels)} and {len(query_labels)} labels; "
            "give one label per row."
        )


def judge(
    task: Task,
    ks: Sequence[int],
    temperature: float,
    recall_at: Sequence[int] = (),
    weights: str = "exp",
    neighbours: Neighbours | None = None,
    exact: bool = True,
) -> Judged:
    """Return what `knn` averages, query by query, for a task with one class a row.

    A query's excluded row is left out by its number, not by its similarity. ``neighbours`` are what `nearest` gave for
    the largest k or more, where that is known already. Those of an index are not ``exact``: where a tie goes on beyond
    them, the bank is not searched any further.
    """
    bank_classes, query_classes, classes = numbered(
        *(np.asarray(x, np.int64) for x in (task.bank_labels, task.query_labels))
    )
    rows = task.candidates
    largest = min(max([*ks, *recall_at]), rows)
    if neighbours is None:
        neighbours = nearest(task.bank, task.queries, largest, task.excluded, task.search)
    similar = neighbours[0]
    judged = Judged(*({k: np.zeros(len(task.queries)) for k in some} for some in (ks, ks, recall_at)))
    with_nobody = np.append(bank_classes, classes)
    for part, s, candidates in in_parts(task, with_nobody, neighbours, largest, exact):
        for k in {*ks, *recall_at}:
            share, upto = shares(s, similar[part, min(k, rows) - 1], min(k, rows))
            if k in judged.top1:
                heat = temperature if weights == "exp" else None
                votes = vote(s[:, :upto], share, candidates[:, :upto], heat, classes + 1)[:, :classes]  # not nobody's
                judged.top1[k][part] = wins(votes, query_classes[part], exp(-TIE / temperature))
                judged.top5[k][part] = among(votes, query_classes[part], 5)
            if k in judged.recall:
                judged.recall[k][part] = hit(share, candidates[:, :upto] == query_classes[part, None])
    return judged


def numbered(bank_labels: Ints, query_labels: Ints) -> tuple[Ints, Ints, int]:
    """Return both labels counted from 0 over the classes of both, and how many classes these are."""
    classes, codes = np.unique(np.concatenate([bank_labels, query_labels]), return_inverse=True)
    codes = codes.astype(np.int64)
    return codes[: len(bank_labels)], codes[len(bank_labels) :], len(classes)


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


def in_parts(
    task: Task, classes: Ints, neighbours: Neighbours, k: int, exact: bool
) -> Iterator[tuple[Ints, Floats, Ints]]:
    """Yield parts of the queries, with the similarities and the classes [part, R] of the rows that may vote.

    These rows are the neighbours, nearest first; for queries whose tie at the k-th goes on beyond them they are the
    whole bank. ``classes`` [N + 1] are those of the bank's rows and last nobody's, which a row -1 has.
    """
    similar, near = neighbours
    open_ended = (similar[:, k - 1] - similar[:, -1] <= 2 * TIE) & (similar.shape[1] < task.candidates) & exact
    for whole in (False, True):
        chosen = np.flatnonzero(open_ended == whole)
        size = max(1, 8_000_000 // len(task.bank)) if whole else CHUNK
        for part in np.array_split(chosen, max(1, -(-len(chosen) // size))):
            s = task.queries[part] @ task.bank.T if whole else similar[part]
            if whole and task.excluded is not None:
                s[np.arange(len(part)), task.excluded[part]] = -np.inf
            yield part, s, np.broadcast_to(classes[:-1], s.shape) if whole else classes[near[part]]


def unit_rows(name: str, rows: npt.ArrayLike) -> Floats:
    """Return float32 rows of length 1; zero rows stay. Raises `UserError` for what is no matrix of finite numbers."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and refused
        x = np.ascontiguousarray(rows, dtype=np.float32)
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"{name} has shape {list(x.shape)}; it has to be [rows, columns], neither empty.")
    unit, norms = allocate(x.shape), np.empty(len(x))
    for i in range(0, len(x), CHUNK):  # what fits the cache, in float64
        part = x[i : i + CHUNK].astype(np.float64)
        norms[i : i + CHUNK] = norm = np.sqrt(np.einsum("nd,nd->n", part, part))
        with np.errstate(invalid="ignore"):
            np.divide(part, np.where(norm == 0, 1, norm)[:, None], out=unit[i : i + CHUNK], casting="same_kind")
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise UserError(f"{name} has {len(bad)} rows that are not finite, the first at {bad[0]}; check the encoder.")
    return unit


def allocate(shape: tuple[int, ...]) -> Floats:
    """Return an array to fill: in memory, or in a temporary file where it would take more than half of what is free."""
    if 4 * np.prod(shape, dtype=np.int64) > psutil.virtual_memory().available // 2:
        with TemporaryFile() as file:  # the mapping outlives it
            return np.memmap(file, np.float32, "w+", shape=shape)
    return np.empty(shape, np.float32)


def shares(similar: Floats, kth: Floats, k: int) -> tuple[Doubles, int]:
    """Return how much of each row [Q, R] counts among the k nearest, and up to which column any does.

    A row above the tie at the k-th similarity [Q] counts 1; the rows of the tie have equal shares of what remains.
    """
    kth = kth[:, None]
    reach = similar >= kth - TIE
    upto = int(np.flatnonzero(reach.any(axis=0)).max(initial=0)) + 1
    above = similar[:, :upto] > kth + TIE
    tied = ~above & reach[:, :upto]
    share = (k - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    return above + tied * share, upto


def vote(similar: Floats, share: Doubles, labels: Ints, temperature: float | None, classes: int) -> Doubles:
    """Return the votes [Q, classes] for each class; each row has one vote where there is no temperature."""
    top = similar.max(axis=1, keepdims=True).astype(np.float64)
    weights = share if temperature is None else share * np.exp((similar - top) / temperature)
    rows = np.arange(len(similar))[:, None] * classes
    votes: Doubles = np.bincount((rows + labels).ravel(), weights.ravel(), len(similar) * classes).astype(np.float64)
    return votes.reshape(-1, classes)


def wins(votes: Doubles, truth: Ints, factor: float) -> Doubles:
    """Return 1 where the true class alone has the most votes, 1/m where m classes have them, and 0 elsewhere.

    Classes have the most votes together where theirs are at least ``factor`` of the most.
    """
    winners = votes >= votes.max(axis=1, keepdims=True) * factor
    earned: Doubles = winners[np.arange(len(truth)), truth] / winners.sum(axis=1)
    return earned


def among(votes: Doubles, truth: Ints, n: int) -> Doubles:
    """Return the chance that the true class is among the n with the most votes; equal ones come in random order."""
    true_votes = votes[np.arange(len(truth)), truth][:, None]
    better, equal = votes > true_votes * (1 + TIE), np.abs(votes - true_votes) <= true_votes * TIE
    chance: Doubles = (n - better.sum(axis=1)) / equal.sum(axis=1)
    return chance.clip(0, 1)


def hit(share: Doubles, same: Bools) -> Doubles:
    """Return the chance that one of the first k is of the same class, where tied rows come in random order."""
    sure = (same & (share == 1)).any(axis=1)
    tied = (share > 0) & (share < 1)
    drawn = np.rint((share * tied).sum(axis=1)).astype(np.int64)
    pool, good = tied.sum(axis=1), (tied & same).sum(axis=1)
    missed = np.ones(len(share))
    for i in range(int(drawn.max(initial=0))):  # none of the class in any draw without replacement
        now = i < drawn
        missed = np.where(now, missed * np.clip((pool - good - i) / np.maximum(pool - i, 1), 0, None), missed)
    return np.where(sure, 1.0, 1.0 - missed)
