"""What is scored: a bank and queries with their labels, as arrays; and the names of the arrays' types."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Labels = Ints | Bools  # a class per row [N], or which labels a row has [N, C]
Neighbours = tuple[Floats, Ints]  # similarities and rows of the bank [Q, k], largest similarity first
Rows = npt.NDArray[Any]  # numbers of any kind [N, D]
Search = Callable[[Floats, Floats, int], Neighbours]  # of a bank, queries and k


@dataclass(frozen=True)
class Task:
    """Holds a bank [N, D] and queries [Q, D], rows of length 1, with the labels of both.

    ``excluded`` [Q] is the row of the bank that each query leaves out, its own, where a set is its own bank.
    ``search`` is the exact search that is used, by default that of faiss. ``given`` are bank and queries before they
    were narrowed to float32, of any length: where float32 cannot tell rows apart, these are compared.
    """

    bank: Floats
    bank_labels: Labels
    queries: Floats
    query_labels: Labels
    excluded: Ints | None = None
    search: Search | None = None
    given: tuple[Rows, Rows] | None = None

    @property
    def whole_rows(self) -> tuple[Rows, Rows]:
        """Return bank and queries with all the digits that there are."""
        return self.given or (self.bank, self.queries)

    @property
    def candidates(self) -> int:
        """Return how many rows of the bank may be a query's neighbours."""
        return len(self.bank) - (self.excluded is not None)

    @property
    def multi_label(self) -> bool:
        """Return whether a row may have several labels."""
        return self.bank_labels.ndim == 2


def alike(task: Task, near: Ints) -> Bools:
    """Return whether rows ``near`` [Q, k] of the bank have each query's class, or share a label with it."""
    if not task.multi_label:
        return np.asarray(task.bank_labels[near] == task.query_labels[:, None])
    return np.asarray((task.bank_labels[near] & task.query_labels[:, None]).any(axis=2))
