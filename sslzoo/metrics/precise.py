"""Similarities in float64, of rows as they were given, and how far computed ones may be off."""

from math import sqrt

import numpy as np
import numpy.typing as npt

from .task import Doubles, Ints, Task

SINGLE, DOUBLE = 2.0**-24, 2.0**-53  # the relative error of one rounding in float32 and in float64
SURE = 4.0  # times the square root of the additions: their roundings hardly ever sum to more (Higham & Mary 2019)
LOWEST = -2.0  # below any cosine: a query's own row
PIECE = 4_000_000  # numbers that are widened at a time
SAFE = 1e-140, 1e140  # norms whose squares float64 holds to its last digit


def error(columns: int, rounding: float) -> float:
    """Return how far the computed inner product of two rows of length 1 may be from the true one.

    Each row is rounded once, and so is each addition.
    """
    return rounding * (4 + SURE * sqrt(columns))


def tie(columns: int) -> float:
    """Return how far apart float64's similarities of equal rows may be: rows no further apart are tied."""
    return 2 * error(columns, DOUBLE)


def lengths(rows: Doubles) -> Doubles:
    """Return the lengths of rows [.., D], those of tiny and of huge numbers too; nan and inf where a row has them."""
    norms: Doubles = np.sqrt(np.einsum("...d,...d->...", rows, rows))
    odd = ~((norms >= SAFE[0]) & (norms <= SAFE[1]))
    if odd.any():
        largest = np.abs(rows[odd]).max(axis=-1, initial=0)
        scale = np.where((largest > 0) & np.isfinite(largest), largest, 1)
        scaled = rows[odd] / scale[:, None]
        norms[odd] = scale * np.sqrt(np.einsum("nd,nd->n", scaled, scaled))
    return norms


def unit(rows: npt.NDArray[np.generic]) -> Doubles:
    """Return rows [.., D] of length 1 in float64; zero rows stay."""
    x = rows.astype(np.float64)
    norms = lengths(x)
    return x / np.where(norms == 0, 1, norms)[..., None]


def of_pairs(task: Task, part: Ints, near: Ints) -> Doubles:
    """Return the similarities [P] of queries ``part`` [P] with rows ``near`` [P] of the bank."""
    bank, queries = task.whole_rows
    similar, size = np.empty(len(part)), max(1, PIECE // bank.shape[1])
    for start in range(0, len(part), size):
        now = slice(start, start + size)
        asked, place = np.unique(part[now], return_inverse=True)
        similar[now] = np.einsum("nd,nd->n", unit(queries[asked])[place], unit(bank[near[now]]))
    return similar


def of_columns(task: Task, part: Ints, near: Ints) -> Doubles:
    """Return the similarities [P, k] of queries ``part`` [P] with rows ``near`` [P, k], and `LOWEST` for a row -1."""
    similar = of_pairs(task, np.repeat(part, near.shape[1]), near.ravel()).reshape(near.shape)
    return np.where(near < 0, LOWEST, similar)


def of_bank(task: Task, part: Ints) -> Doubles:
    """Return the similarities [P, N] of queries ``part`` with the whole bank; `LOWEST` for a query's excluded row."""
    bank, queries = task.whole_rows
    asked, similar = unit(queries[part]), np.empty((len(part), len(bank)))
    size = max(1, PIECE // bank.shape[1])
    for start in range(0, len(bank), size):
        rows = bank[start : start + size].astype(np.float64)
        norms = lengths(rows)
        if norms.max() > SAFE[1]:  # where products might overflow
            rows, norms = unit(rows), np.ones(len(rows))
        similar[:, start : start + size] = asked @ rows.T / np.where(norms == 0, 1, norms)
    if task.excluded is not None:
        similar[np.arange(len(part)), task.excluded[part]] = LOWEST
    return similar


def best_of_bank(task: Task, part: Ints, k: int) -> tuple[Doubles, Ints]:
    """Return similarities and rows [P, R] of the k nearest and of all that are tied with one of them, nearest first."""
    similar = of_bank(task, part)
    kth = np.partition(similar, -k, axis=1)[:, -k]
    wide = int((similar >= (kth - tie(task.bank.shape[1]))[:, None]).sum(axis=1).max())
    near = np.argpartition(similar, -wide, axis=1)[:, -wide:]
    return in_order(np.take_along_axis(similar, near, 1), near)


def in_order(similar: Doubles, near: Ints) -> tuple[Doubles, Ints]:
    """Return similarities and their rows, the largest first."""
    order = np.argsort(-similar, axis=1, kind="stable")
    return np.take_along_axis(similar, order, 1), np.take_along_axis(near, order, 1)
