"""What is scored: a bank and queries with their labels, as arrays; and the names of the arrays' types."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Labels = Ints | Bools  # a class per row [N], or which labels a row has [N, C]
Neighbours = tuple[Floats, Ints]  # similarities and rows of the bank [Q, k], largest similarity first
Search = Callable[[Floats, Floats, int], Neighbours]  # of a bank, queries and k


@dataclass(frozen=True)
class Task:
    """Holds a bank [N, D] and queries [Q, D], rows of length 1, with the labels of both.

    ``excluded`` [Q] is the row of the bank that each query leaves out, its own, where a set is its own bank.
    ``search`` is the exact search that is used, by default that of faiss.
    """

    bank: Floats
    bank_labels: Labels
    queries: Floats
    query_labels: Labels
    excluded: Ints | None = None
    search: Search | None = None

    @property
    def candidates(self) -> int:
        """Return how many rows of the bank may be a query's neighbours."""
        return len(self.bank) - (self.excluded is not None)

    @property
    def multi_label(self) -> bool:
        """Return whether a row may have several labels."""
        return self.bank_labels.ndim == 2
