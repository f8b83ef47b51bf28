"""Nearest rows by inner product with faiss: exact, or by any index that its factory makes from a string."""

import os
import re
import time
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import torch

from ..tools.errors import UserError

EXACT = "flat"
TRAINED_ON = 256  # rows for each list or centroid, at most: faiss' own k-means takes no more
ADDED = 100_000  # rows at a time

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def search(bank: Floats, queries: Floats, k: int) -> tuple[Floats, Ints]:
    """The k largest inner products of each query with the bank and their rows, largest first; exact.

    By torch on a GPU where there is one, with the same result up to float32's rounding.
    """
    if torch.cuda.is_available():
        return search_on("cuda", bank, queries, k)
    similar, near = faiss.knn(queries, bank, k, metric=faiss.METRIC_INNER_PRODUCT)  # an index would copy the bank
    return similar, near


def search_on(device: str, bank: Floats, queries: Floats, k: int, rows: int = 1 << 20) -> tuple[Floats, Ints]:
    """The same in torch on a device: bank and queries in parts, so that neither has to fit it whole."""
    similar, near = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), 1024):
        asked = torch.from_numpy(queries[start : start + 1024]).to(device)
        best, at = asked.new_empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.long, device=device)
        for first in range(0, len(bank), rows):
            part = asked @ torch.from_numpy(bank[first : first + rows]).to(device).T
            values, places = part.topk(min(k, part.shape[1]), dim=1)
            best, at = torch.cat([best, values], 1), torch.cat([at, places + first], 1)
            best, kept = best.topk(min(k, best.shape[1]), dim=1)
            at = at.gather(1, kept)
        similar[start : start + 1024], near[start : start + 1024] = best.cpu().numpy(), at.cpu().numpy()
    return similar, near


class Index:
    """An index by faiss' factory string, with its search parameters behind a colon: ``IVF1024,Flat:nprobe=16``.

    Raises `UserError` for a string that faiss does not take.
    """

    def __init__(self, spec: str, dim: int):
        self.spec = spec
        factory, _, self.parameters = spec.partition(":")
        if re.search(r"(?<!\d)0+(?!\d)|HNSW0*1(?!\d)", factory):  # faiss ends the process for these
            raise UserError(f"faiss takes no index {spec!r}; {EXAMPLES}.")
        try:
            self.index = faiss.index_factory(dim, "Flat" if factory == EXACT else factory, faiss.METRIC_INNER_PRODUCT)
            self.tune()
        except RuntimeError as error:
            raise UserError(f"faiss takes no index {spec!r} for {dim} columns ({_said(error)}); {EXAMPLES}.") from None

    def tune(self) -> None:
        """Set the search parameters."""
        if self.parameters:
            faiss.ParameterSpace().set_index_parameters(self.index, self.parameters)  # type: ignore[arg-type]

    def build(self, bank: Floats, lists: Path | None = None) -> float:
        """Train on a seeded part of the rows and add all, in parts; the seconds that it takes. Raises `UserError`.

        ``lists`` is a file for inverted lists, where the index has some, so that they need no memory.
        """
        started = time.perf_counter()
        if not self.index.is_trained:
            wanted = TRAINED_ON * max(getattr(faiss.try_extract_index_ivf(self.index), "nlist", 0) or 0, 1024)
            chosen = np.random.default_rng(0).permutation(len(bank))[:wanted]
            try:
                self.index.train(np.ascontiguousarray(bank[np.sort(chosen)]))
            except RuntimeError as error:
                raise UserError(
                    f"The index {self.spec!r} cannot be trained on {len(bank)} rows ({_said(error)}); "
                    "choose fewer lists, centroids or columns."
                ) from None
        if lists is not None and (inverted := faiss.try_extract_index_ivf(self.index)) is not None:
            self.lists = faiss.OnDiskInvertedLists(inverted.nlist, inverted.code_size, str(lists))
            inverted.replace_invlists(self.lists)
        try:
            for start in range(0, len(bank), ADDED):
                self.index.add(np.ascontiguousarray(bank[start : start + ADDED]))
        except RuntimeError as error:
            raise UserError(f"The index {self.spec!r} takes no rows ({_said(error)}); {EXAMPLES}.") from None
        return time.perf_counter() - started

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """As `search`; a place that the index leaves empty has the row -1 and a similarity below all."""
        try:
            similar, near = self.index.search(queries, k)
        except RuntimeError as error:
            raise UserError(f"The index {self.spec!r} cannot be searched ({_said(error)}); {EXAMPLES}.") from None
        return similar, near

    @property
    def bytes(self) -> int:
        """What the index takes when it is saved, as what it takes in memory."""
        return int(faiss.serialize_index(self.index).nbytes)

    def save(self, path: Path) -> None:
        """Write it whole, then rename it."""
        written = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            faiss.write_index(self.index, str(written))
        except RuntimeError as error:
            raise UserError(f"{path} cannot be written ({_said(error)}); choose another --index-dir.") from None
        written.replace(path)

    @classmethod
    def load(cls, path: Path, spec: str) -> "Index":
        """An index that `save` wrote. Raises `UserError`."""
        try:
            found = faiss.read_index(str(path))
        except RuntimeError as error:
            raise UserError(f"{path} is no index of faiss ({_said(error)}); remove it.") from None
        made = cls.__new__(cls)
        made.spec, made.index, made.parameters = spec, found, spec.partition(":")[2]
        made.tune()
        return made


EXAMPLES = "try flat, HNSW32, IVF1024,Flat:nprobe=16 or IVF1024,PQ32"


def _said(error: RuntimeError) -> str:
    """The end of faiss' message, which begins with its source line."""
    return str(error).splitlines()[0].rpartition(": ")[2].rstrip(". ")[:120]
