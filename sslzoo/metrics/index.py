"""Nearest rows by inner product with faiss: exact, or by any index that its factory makes from a string."""

import os
import re
import time
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..tools.errors import UserError

EXACT = "flat"
TRAINED_ON = 256  # rows for each list or centroid, at most: faiss' own k-means takes no more
ADDED = 100_000  # rows at a time
AT_ONCE = 1024  # queries that a GPU searches for at a time
FEWEST = 1024  # rows of a bank that it searches at a time

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def search(bank: Floats, queries: Floats, k: int) -> tuple[Floats, Ints]:
    """Return the k largest inner products of each query with the bank, and their rows, largest first.

    The search is exact, and faiss'.
    """
    similar, near = faiss.knn(queries, bank, k, metric=faiss.METRIC_INNER_PRODUCT)  # an index would copy the bank
    return similar, near


class Exact:
    """Searches as `search` does, on a device: by faiss on a CPU, by torch on a GPU, equal up to float32's rounding.

    A bank that fits a GPU whole is sent there once, for all searches in it.
    """

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.bank: Floats | None = None
        self.there: Tensor | None = None

    def __call__(self, bank: Floats, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Return the k nearest rows of a bank, as `search`. Raises `UserError` where a GPU has too little memory."""
        if not self.device.startswith("cuda"):
            return search(bank, queries, k)
        rows = rows_at_once(self.device, bank.shape[1])
        while rows >= FEWEST:
            try:
                if len(bank) > rows:
                    return search_on(self.device, bank, queries, k, rows)
                if self.there is None or self.bank is not bank:
                    self.bank, self.there = bank, None  # the one before is let go of first
                    self.there = torch.from_numpy(bank).to(self.device)
                return best(self.there, queries, k)
            except torch.OutOfMemoryError:
                self.bank = self.there = None
                rows = min(rows, len(bank)) // 2
        raise UserError(f"The memory of {self.device} does not hold {FEWEST} rows to search in; use --device cpu.")


def exact_by(device: str) -> str:
    """Return in words what the exact search is on a device."""
    return f"{f'torch on {device}' if device.startswith('cuda') else 'faiss'}, exact inner product"


def rows_at_once(device: str, columns: int) -> int:
    """Return how many rows of a bank are searched at a time: with their similarities, half of a GPU's free memory."""
    free, _ = torch.cuda.mem_get_info(device)
    return max(int(free // 2 // (4 * (columns + 3 * AT_ONCE))), FEWEST)


def search_on(device: str, bank: Floats, queries: Floats, k: int, rows: int) -> tuple[Floats, Ints]:
    """Search as `search` does, in torch, ``rows`` of the bank at a time, each of which is sent to the device once."""
    similar, near = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(bank), rows):
        values, rows_there = best(torch.from_numpy(bank[start : start + rows]).to(device), queries, k)
        similar, near = np.concatenate([similar, values], 1), np.concatenate([near, rows_there + start], 1)
        kept = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        similar, near = np.take_along_axis(similar, kept, 1), np.take_along_axis(near, kept, 1)
    return similar, near


def best(bank: Tensor, queries: Floats, k: int) -> tuple[Floats, Ints]:
    """Search rows that are on a device, a thousand queries at a time, in full float32 whatever is set."""
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        parts = []
        for start in range(0, len(queries), AT_ONCE):
            part = torch.from_numpy(queries[start : start + AT_ONCE]).to(bank.device)
            values, near = (part @ bank.T).topk(min(k, len(bank)), dim=1)
            parts.append((values.cpu().numpy(), near.cpu().numpy()))
    finally:
        torch.set_float32_matmul_precision(usual)
    return np.concatenate([values for values, _ in parts]), np.concatenate([near for _, near in parts])


class Index:
    """Is an index by faiss' factory string, with its search parameters behind a colon: ``IVF1024,Flat:nprobe=16``.

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
            raise UserError(
                f"faiss takes no index {spec!r} for {dim} columns ({_reason(error)}); {EXAMPLES}."
            ) from None

    def tune(self) -> None:
        """Set the search parameters."""
        if self.parameters:
            faiss.ParameterSpace().set_index_parameters(self.index, self.parameters)  # type: ignore[arg-type]

    def build(self, bank: Floats, lists: Path | None = None) -> float:
        """Train on a seeded part of the rows, add all in parts, and return the seconds it took. Raises `UserError`.

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
                    f"The index {self.spec!r} cannot be trained on {len(bank)} rows ({_reason(error)}); "
                    "choose fewer lists, centroids or columns."
                ) from None
        if lists is not None and (inverted := faiss.try_extract_index_ivf(self.index)) is not None:
            self.lists = faiss.OnDiskInvertedLists(inverted.nlist, inverted.code_size, str(lists))
            inverted.replace_invlists(self.lists)
        try:
            for start in range(0, len(bank), ADDED):
                self.index.add(np.ascontiguousarray(bank[start : start + ADDED]))
        except RuntimeError as error:
            raise UserError(f"The index {self.spec!r} takes no rows ({_reason(error)}); {EXAMPLES}.") from None
        return time.perf_counter() - started

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Return what `search` returns; a column left empty has the row -1, and a similarity below all.

        Raises `UserError` where faiss cannot search it.
        """
        try:
            similar, near = self.index.search(queries, k)
        except RuntimeError as error:
            raise UserError(f"The index {self.spec!r} cannot be searched ({_reason(error)}); {EXAMPLES}.") from None
        return similar, near

    @property
    def bytes(self) -> int:
        """Return the bytes of the index as it is saved, for those that it takes in memory."""
        return int(faiss.serialize_index(self.index).nbytes)

    def save(self, path: Path) -> None:
        """Write the index whole, then rename the file. Raises `UserError`."""
        written = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            faiss.write_index(self.index, str(written))
        except RuntimeError as error:
            raise UserError(f"{path} cannot be written ({_reason(error)}); choose another --index-dir.") from None
        written.replace(path)

    @classmethod
    def load(cls, path: Path, spec: str) -> "Index":
        """Return an index that `save` wrote. Raises `UserError`."""
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise UserError(f"{path} is no index of faiss ({_reason(error)}); remove it.") from None
        made = cls.__new__(cls)
        made.spec, made.index, made.parameters = spec, index, spec.partition(":")[2]
        made.tune()
        return made


EXAMPLES = "try flat, HNSW32, IVF1024,Flat:nprobe=16 or IVF1024,PQ32"


def _reason(error: RuntimeError) -> str:
    """Return the end of faiss' message, which begins with its source line."""
    return str(error).splitlines()[0].rpartition(": ")[2].rstrip(". ")[:120]
