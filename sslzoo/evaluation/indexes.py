"""Indexes beside the exact search: how much they find, how fast they are, and where they are kept."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..metrics.index import Index
from ..metrics.knn import TIE, nearest
from ..metrics.task import Doubles, Floats, Ints, Neighbours, Task
from .protocols import Protocol, judge_by
from .results import IndexRow

COMPARED = 10  # neighbours by which an index is compared with the exact search


def compare(
    task: Task,
    protocol: Protocol,
    specs: Sequence[str],
    folder: Path | None = None,
    exact: Neighbours | None = None,
) -> list[IndexRow]:
    """Return a row for each index, in the order of ``specs``. Raises `UserError` for one that faiss does not take.

    In a folder they are kept, inverted lists as files of their own, and found again for the same rows. ``exact`` are
    the exact neighbours, where they are known already.
    """
    if not specs:
        return []
    top = min(COMPARED, task.candidates)
    if exact is None:
        exact = nearest(task.bank, task.queries, max(COMPARED, *protocol.k), task.excluded, task.search)
    last = exact[0][:, top - 1 : top]  # the similarity of the last exact one
    rows = []
    for spec in specs:
        index, build_seconds = index_of(task.bank, spec, folder)

        def search(_: Floats, queries: Floats, k: int, index: Index = index) -> Neighbours:
            return index.search(queries, k)

        started = time.perf_counter()
        similar, near = nearest(task.bank, task.queries, max(*protocol.k, COMPARED), task.excluded, search)
        seconds = time.perf_counter() - started
        shared = int((similarities(task, near[:, :top]) >= last - TIE).sum())
        knn = None
        if not task.multi_label:
            found = (np.where(near < 0, -2, similar).astype(np.float32), near)  # columns left empty come last
            judged = judge_by(protocol, task, found, exact=False)
            knn = {f"k{k}": float(earned.mean()) for k, earned in judged.top1.items()}
        rows.append(
            IndexRow(
                index=spec, recall=shared / (top * len(near)), queries_per_second=len(task.queries) / seconds,
                build_seconds=build_seconds, bytes=index.bytes, knn=knn,
            )
        )  # fmt: skip
    return rows


def similarities(task: Task, near: Ints) -> Doubles:
    """Return the true similarities [Q, k] of neighbours, whatever an index holds of their rows; -2 for a row -1."""
    similar = np.empty(near.shape)
    for start in range(0, len(near), 256):
        part = slice(start, start + 256)
        similar[part] = np.einsum("qd,qkd->qk", task.queries[part], task.bank[near[part]])
    return np.where(near < 0, -2, similar)


def index_of(bank: Floats, spec: str, folder: Path | None) -> tuple[Index, float]:
    """Return an index of the rows, and the seconds that it took to build; 0 where it was found in the folder."""
    if folder is None:
        index = Index(spec, bank.shape[1])
        return index, index.build(bank)
    factory = spec.partition(":")[0]  # what is behind the colon is about searching
    digest = hashlib.blake2b(f"{factory} {bank.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(bank).data)
    name = digest.hexdigest()
    path = folder / f"{name}.faiss"
    if path.is_file():
        return Index.load(path, spec), 0.0
    index = Index(spec, bank.shape[1])
    build_seconds = index.build(bank, folder / f"{name}.lists")
    index.save(path)
    return index, build_seconds
