"""kNN: weighted votes of the nearest rows with a rule for ties, and recall; the search is that of `index`."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import Any

import numpy as np
import numpy.typing as npt

from ..tools import labels as of_rows
from ..tools.arguments import checked
from ..tools.errors import UserError, listing
from . import index
from .neighbours import nearest, open_ended, parts, settled
from .precise import DOUBLE, SINGLE, best_of_bank, error, in_order, of_columns
from .rows import matrix, plain, unit_rows
from .task import Bools, Doubles, Floats, Ints, Labels, Neighbours, Task

KS = (1, 5, 20, 200)
RECALL_AT = (1, 5, 10)
TEMPERATURE = 0.07
COLDEST = 0.001  # below it votes are those of the nearest alone, and ties beyond float's reach
ROUNDINGS = 2.0**-52  # of each of the votes that are summed
WEIGHTS = ("exp", "uniform")


@dataclass(frozen=True)
class Judged:
    """Holds what each query earns [Q], by k.

    ``top1`` is the chance that its class wins the votes of k neighbours, ``top5`` that it is among the five with the
    most votes, and ``recall`` that one of the first k neighbours is of its class. Of several labels, ``top1`` is the
    chance that the label with the most votes is one of its own, ``recall`` is of a shared one, and ``top5`` is empty.
    """

    top1: dict[int, Doubles]
    top5: dict[int, Doubles]
    recall: dict[int, Doubles]


@checked
def knn(
    bank: npt.ArrayLike,
    bank_labels: npt.ArrayLike,
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    *,
    ks: int | Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    recall_at: int | Sequence[int] = RECALL_AT,
    weights: str = "exp",
    device: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Return kNN accuracy and retrieval recall: ``{"knn": {"k1": ...}, "recall": {"r1": ...}}``, in [0, 1].

    ``bank`` [N, D] and ``queries`` [M, D] are l2-normalised here; ``bank_labels`` [N] and ``query_labels`` [M] are
    whole numbers, a negative one or NaN for no label; such rows are left out. Or they are [N, C] and [M, C] of 0 and 1,
    where a row may have several labels: a neighbour votes for each of its own, and a query is right where the label
    with the most votes is one of its own; a row with none is no query. ``ks`` and ``recall_at`` are the numbers of
    neighbours. A neighbour at cosine similarity s votes exp(s / ``temperature``) for its class (Wu et al. 2018, section
    3.4), or one vote with ``weights`` "uniform". The result depends on no order of rows: rows that float64 cannot tell
    from the k-th nearest share the votes that remain, and of m classes with equal votes the right one earns 1/m. So an
    embedding whose rows are all equal votes the bank's class prior. recall@K is the chance that at least one of the
    first K, ties in random order, has the query's class; a `UserWarning` says how many queries are of classes that the
    bank lacks. A k beyond the bank takes all of it. The search is faiss', or torch's where ``device`` is a GPU; where
    float32 cannot tell whether a row is among the k nearest, float64 does.
    """
    bank, queries = matrix("bank", bank), matrix("queries", queries)
    b, q = unit_rows("bank", bank), unit_rows("queries", queries)
    bl = of_rows.read_labels("The bank's labels", plain("bank_labels", bank_labels))
    ql = of_rows.read_labels("The queries' labels", plain("query_labels", query_labels))
    check(b, bl, q, ql)
    for_bank, for_queries = of_rows.known(bl), of_rows.asking(ql)
    if not (for_bank.any() and for_queries.any()):
        raise UserError("No row of the bank, or none of the queries, has a label from 0 on; give labels.")
    if bl.ndim == 2:
        bl, ql = bl > 0, ql > 0
    if not (for_bank.all() and for_queries.all()):
        bank, b, bl = bank[for_bank], b[for_bank], bl[for_bank]
        queries, q, ql = queries[for_queries], q[for_queries], ql[for_queries]
    if sentence := of_rows.foreign(bl, ql):
        warnings.warn(sentence, stacklevel=2)
    ks, recall_at = counts("ks", ks), counts("recall_at", recall_at)
    if not isinstance(temperature, int | float) or not COLDEST <= temperature < inf:
        raise UserError(f"The temperature cannot be {temperature!r}; it is at least {COLDEST}, and finite.")
    if weights not in WEIGHTS:
        raise UserError(f"weights cannot be {weights!r}; it is {listing(WEIGHTS)}.")
    task = Task(b, bl, q, ql, search=index.Exact(device), given=(bank, queries))
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
    if bank_labels.shape[1:] != query_labels.shape[1:]:
        of_each = [x.shape[1] if x.ndim == 2 else 1 for x in (bank_labels, query_labels)]
        raise UserError(
            f"The bank has {of_each[0]} columns of labels and the queries {of_each[1]}; give both the same columns."
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
    """Return what `knn` averages, query by query.

    A query's excluded row is left out by its number, not by its similarity. ``neighbours`` are what `nearest` gave for
    the largest k or more, where that is known already. Those of an index are not ``exact``: they vote with what the
    index makes of their similarities, and where a tie goes on beyond them, the bank is not searched any further.
    """
    rows = task.candidates
    largest = min(max([*ks, *recall_at]), rows)
    if neighbours is None:
        neighbours = nearest(task.bank, task.queries, largest, task.excluded, task.search)
    ballot = Ballot(task, ks, temperature if weights == "exp" else None, recall_at)
    single, double = (2 * error(task.bank.shape[1], x) for x in (SINGLE, DOUBLE))
    everybody = np.arange(len(task.queries))
    if not exact:
        for part in parts(everybody, 0):
            ballot.count(part, neighbours[0][part].astype(np.float64), neighbours[1][part], single, single)
        return ballot.judged
    beyond = open_ended(task, neighbours[0], largest)
    close: list[Ints] = []  # where the votes are too close for float32
    for part in parts(everybody[~beyond], 0):
        unsure = ballot.count(part, *settled(task, part, neighbours, ballot.places), double, single)
        close.append(part[unsure])
    for part in parts(np.concatenate([*close, everybody[:0]]), 0):
        near = neighbours[1][part]
        ballot.count(part, *in_order(of_columns(task, part, near), near), double, double)
    for part in parts(everybody[beyond], len(task.bank)):
        ballot.count(part, *best_of_bank(task, part, largest), double, double)
    return ballot.judged


class Ballot:
    """Counts the votes of queries' neighbours, by k; without a temperature each row has one vote."""

    def __init__(self, task: Task, ks: Sequence[int], temperature: float | None, recall_at: Sequence[int]):
        bank, self.truth, self.classes = numbered(task)
        self.bank = np.append(bank, np.full_like(bank[:1], self.classes), axis=0)  # and last a row -1, nobody's
        self.temperature, self.rows = temperature, task.candidates
        self.places = sorted({min(k, self.rows) for k in (*ks, *recall_at)})
        some = (ks, () if task.multi_label else ks, recall_at)
        self.judged = Judged(*({k: np.zeros(len(task.queries)) for k in each} for each in some))

    def count(self, part: Ints, similar: Doubles, near: Ints, tie: float, off: float) -> Bools:
        """Note what queries ``part`` earn by their nearest rows [P, R], the nearest first.

        Rows no further apart than ``tie`` are tied, and similarities may be ``off`` by so much. Return for which
        queries [P] that may change what they earn.
        """
        labels, truth, judged = self.bank[near], self.truth[part], self.judged
        own = np.zeros((len(part), self.classes + 1), bool)
        own[np.arange(len(part))[:, None], truth] = True
        own[:, self.classes] = False  # nobody's
        shared = np.asarray(own[np.arange(len(part))[:, None, None], labels].any(axis=2))
        unsure = np.zeros(len(part), bool)
        slack = ROUNDINGS * (similar.shape[1] + 1)  # of sums of votes, relative to them
        slack += 0 if self.temperature is None else exp(min(2 * off / self.temperature, 700)) - 1
        for k in {*judged.top1, *judged.recall}:
            share, upto = shares(similar, similar[:, min(k, self.rows) - 1], min(k, self.rows), tie)
            if k in judged.top1:
                votes = vote(similar[:, :upto], share, labels[:, :upto], self.temperature, self.classes + 1)
                votes = votes[:, : self.classes]  # not nobody's
                judged.top1[k][part], drawn = wins(votes, own[:, : self.classes], slack)
                unsure |= drawn
            if k in judged.top5:
                judged.top5[k][part], drawn = among(votes, truth[:, 0], 5, slack)
                unsure |= drawn
            if k in judged.recall:
                judged.recall[k][part] = hit(share, shared[:, :upto])
        return unsure


def numbered(task: Task) -> tuple[Ints, Ints, int]:
    """Return the labels of bank [N, L] and queries [Q, L], counted from 0, and how many C there are.

    A row of fewer than L labels is filled with C.
    """
    if task.multi_label:
        return listed(task.bank_labels), listed(task.query_labels), task.bank_labels.shape[1]
    classes, codes = np.unique(np.concatenate([task.bank_labels, task.query_labels]), return_inverse=True)
    codes = codes.astype(np.int64)[:, None]
    return codes[: len(task.bank_labels)], codes[len(task.bank_labels) :], len(classes)


def listed(labels: Labels) -> Ints:
    """Return the columns [N, L] that are true in each row [N, C], in order, and C where a row has fewer than L."""
    row, column = np.nonzero(labels)
    counts = np.bincount(row, minlength=len(labels))
    found = np.full((len(labels), int(counts.max(initial=1))), labels.shape[1])
    found[row, np.arange(len(row)) - (np.cumsum(counts) - counts)[row]] = column
    return found


def counts(name: str, ks: int | Sequence[int]) -> list[int]:
    """Return numbers of neighbours, of one or several. Raises `UserError` for what is no whole number from 1 on."""
    found: list[Any] = [ks] if isinstance(ks, str) or np.ndim(ks) == 0 else list(ks)  # type: ignore[arg-type]
    if any(isinstance(k, bool | np.bool_) or not isinstance(k, int | np.integer) or k < 1 for k in found) or not found:
        raise UserError(f"{name} cannot be {ks!r}; give whole numbers of neighbours, each at least 1.")
    return [int(k) for k in found]


def shares(similar: Doubles, kth: Doubles, k: int, tie: float) -> tuple[Doubles, int]:
    """Return how much of each row [Q, R] counts among the k nearest, and up to which column any does.

    A row above the tie at the k-th similarity [Q] counts 1; the rows of the tie have equal shares of what remains.
    """
    kth = kth[:, None]
    reach = similar >= kth - tie
    upto = int(np.flatnonzero(reach.any(axis=0)).max(initial=0)) + 1
    above = similar[:, :upto] > kth + tie
    tied = ~above & reach[:, :upto]
    share = (k - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    return above + tied * share, upto


def vote(similar: Doubles, share: Doubles, labels: Ints, temperature: float | None, classes: int) -> Doubles:
    """Return the votes [Q, classes] for each class of rows of labels [Q, R, L].

    Each row has one vote for each of its labels where there is no temperature.
    """
    top = similar.max(axis=1, keepdims=True)
    weights = share if temperature is None else share * np.exp((similar - top) / temperature)
    rows = np.arange(len(similar))[:, None, None] * classes
    weights = np.broadcast_to(weights[:, :, None], labels.shape)
    votes: Doubles = np.bincount((rows + labels).ravel(), weights.ravel(), len(similar) * classes).astype(np.float64)
    return votes.reshape(-1, classes)


def wins(votes: Doubles, own: Bools, slack: float) -> tuple[Doubles, Bools]:
    """Return what each query earns [Q], and where it is drawn by lot; ``own`` [Q, classes] marks what is right.

    It earns the part of the classes with the most votes that are its own: 1/m where its class is one of m. Classes have
    the most votes together where theirs are no more than ``slack`` times the most below these. Where nobody votes,
    nothing is right.
    """
    most = votes.max(axis=1, keepdims=True)
    winners = (votes >= most / (1 + slack)) & (most > 0)
    earned: Doubles = (winners & own).sum(axis=1) / np.maximum(winners.sum(axis=1), 1)
    return earned, (earned > 0) & (earned < 1)


def among(votes: Doubles, truth: Ints, n: int, slack: float) -> tuple[Doubles, Bools]:
    """Return the chance [Q] that the true class is among the n with the most votes, and where it is drawn by lot.

    Classes whose votes differ by no more than ``slack`` times these come in random order.
    """
    true_votes = votes[np.arange(len(truth)), truth][:, None]
    better, equal = votes > true_votes * (1 + slack), np.abs(votes - true_votes) <= true_votes * slack
    ahead, tied = better.sum(axis=1), equal.sum(axis=1)
    chance: Doubles = ((n - ahead) / tied).clip(0, 1)
    return chance, (ahead < n) & (ahead + tied > n) & (true_votes[:, 0] > 0)


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
