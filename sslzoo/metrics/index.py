"""Nearest rows by inner product with faiss: exact, or by any index that its factory makes from a string."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import faiss
import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from ..tools.errors import UserError
from ..tools.output import file_limit, printing_to_stderr

EXACT = "flat"
VERSION: str = faiss.__version__
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

    ``rows`` is how many it will hold, where that is known. Raises `UserError` for a string that faiss does not take,
    and for one that would take all memory or never end.
    """

    def __init__(self, spec: str, dim: int, rows: int | None = None):
        self.spec, self.rows = spec, rows
        factory, _, self.parameters = spec.partition(":")
        self.check(factory)
        with refusing(f"faiss takes no index {spec!r} for {dim} columns"):
            self.index = faiss.index_factory(dim, "Flat" if factory == EXACT else factory, faiss.METRIC_INNER_PRODUCT)
            self.tune()

    def check(self, factory: str) -> None:
        """Raise `UserError` for numbers that faiss does not check itself: it ends the process, or never ends."""
        if re.search(r"(?<!\d)0+(?!\d)", factory):
            raise UserError(f"faiss takes no index {self.spec!r}; {EXAMPLES}.")
        if "NSG" in factory:
            raise UserError(f"The index {self.spec!r} may never be built, whatever its degree; take HNSW32 instead.")
        for name, number in re.findall(r"([A-Za-z]*)(\d+)", factory):
            low, high = BOUNDS.get(name, (1, 2**16))
            if not low <= int(number) <= high:
                raise UserError(
                    f"faiss takes no index {self.spec[:80]!r}: {name}{number[:20]} is out of bounds; it is from {low} "
                    f"to {high:,}."
                )
        most = max(self.rows or 2**31 - 1, 4096)
        for name, value in re.findall(r"(\w+)=([^,]*)", self.parameters):
            if not name.endswith(COUNTED):
                continue
            if not re.fullmatch(r"\d{1,10}", value) or not 1 <= int(value) <= most:
                raise UserError(f"{name} of {self.spec!r} cannot be {value}; it is a whole number from 1 to {most:,}.")

    def tune(self) -> None:
        """Set the search parameters."""
        if self.parameters:
            faiss.ParameterSpace().set_index_parameters(self.index, self.parameters)  # type: ignore[arg-type]

    def build(self, bank: Floats, lists: Path | None = None) -> float:
        """Train on a seeded part of the rows, add all in parts, and return the seconds it took. Raises `UserError`.

        ``lists`` is a file for inverted lists, where the index has some; where memory does not hold them, they are made
        in that file.
        """
        started = time.perf_counter()
        if not self.index.is_trained:
            wanted = TRAINED_ON * max(getattr(faiss.try_extract_index_ivf(self.index), "nlist", 0) or 0, 1024)
            chosen = np.random.default_rng(0).permutation(len(bank))[:wanted]
            few = "choose fewer lists, centroids or columns"
            with refusing(f"The index {self.spec!r} cannot be trained on {len(bank)} rows", few):
                self.index.train(np.ascontiguousarray(bank[np.sort(chosen)]))
        inverted = None if lists is None else faiss.try_extract_index_ivf(self.index)
        in_memory = None if inverted is None else faiss.downcast_InvertedLists(inverted.invlists)  # type: ignore[arg-type]
        with refusing(f"The index {self.spec!r} takes no rows"):
            if inverted is None or not isinstance(in_memory, faiss.ArrayInvertedLists):  # others fit no file
                self.add(bank)
                return time.perf_counter() - started
            entries = len(bank) * (inverted.code_size + 8)  # a code and a number for each row
            large = entries > psutil.virtual_memory().available // 2
            check_room(cast(Path, lists).parent, GROWTH * entries if large else entries)
            on_disk = faiss.OnDiskInvertedLists(inverted.nlist, inverted.code_size, str(lists))
            if large:
                inverted.replace_invlists(on_disk)
                self.add(bank)
            else:
                self.add(bank)
                on_disk.merge_from_1(in_memory)
                inverted.replace_invlists(on_disk)
            self.lists = on_disk
        return time.perf_counter() - started

    def add(self, bank: Floats) -> None:
        """Add all rows, in parts."""
        for start in range(0, len(bank), ADDED):
            self.index.add(np.ascontiguousarray(bank[start : start + ADDED]))

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Return what `search` returns; a column left empty has the row -1, and a similarity below all.

        Raises `UserError` where faiss cannot search it.
        """
        with refusing(f"The index {self.spec!r} cannot be searched"):
            similar, near = self.index.search(queries, k)
        return similar, near

    @property
    def bytes(self) -> int:
        """Return the bytes of the index as it is saved, for those that it takes in memory."""
        return int(faiss.serialize_index(self.index).nbytes)

    def save(self, path: Path) -> None:
        """Write the index. Raises `UserError`, and leaves no file behind, where it cannot be written."""
        check_room(path.parent, self.bytes)
        try:
            with refusing(f"{path} cannot be written", PLACE):
                faiss.write_index(self.index, str(path))
        except UserError:
            path.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path, spec: str, rows: int | None = None) -> "Index":
        """Return an index that `save` wrote, whose lists lie beside it. Raises `UserError`.

        faiss trusts what it reads: whoever calls this has to know that the file is as it was written.
        """
        made = cls.__new__(cls)
        made.spec, made.rows, (factory, _, made.parameters) = spec, rows, spec.partition(":")
        made.check(factory)
        with refusing(f"{path} is no index of faiss"):
            made.index = faiss.read_index(str(path), faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY)
            made.tune()
        return made


EXAMPLES = "try flat, HNSW32, IVF1024,Flat:nprobe=16 or IVF1024,PQ32"
PLACE = "make room or choose another --index-dir"
BOUNDS = {"HNSW": (2, 512), "IVF": (1, 2**20), "PCA": (1, 2**14), "x": (1, 16)}  # of the number behind a word
COUNTED = ("efSearch", "efConstruction", "nprobe")  # parameters that are whole numbers
GROWTH = 8  # times what they hold: the disk that lists may take that grow in a file


@contextmanager
def refusing(what: str, hint: str = EXAMPLES) -> Iterator[None]:
    """Let errors of faiss be a `UserError` that begins and ends so; what it prints goes to standard error."""
    try:
        with printing_to_stderr():
            yield
    except (RuntimeError, MemoryError, AssertionError) as error:
        raise UserError(f"{what} ({_reason(error)}); {hint}.") from None


def check_room(folder: Path, needed: int) -> None:
    """Raise `UserError` where a disk or a limit does not hold a file of so many bytes: there faiss ends the process."""
    free, limit = shutil.disk_usage(folder).free, file_limit()
    if needed > free:
        raise UserError(
            f"{folder} has {free / 2**20:,.1f} MiB free, and an index needs {needed / 2**20:,.1f}; {PLACE}."
        )
    if limit is not None and needed > limit:
        raise UserError(
            f"No file may be larger than {limit >> 10:,} KiB here, and an index needs {needed >> 10:,}; raise 'ulimit "
            "-f', or leave --index-dir out."
        )


def _reason(error: BaseException) -> str:
    """Return the end of faiss' message, which begins with its source line."""
    if isinstance(error, MemoryError):
        return "memory does not hold it"
    return (str(error).splitlines() or [""])[0].rpartition(": ")[2].rstrip(". ")[:120]
