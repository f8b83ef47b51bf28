"""Indexes beside the exact search: how much they find, how fast they are, and where they are kept."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..metrics.index import Index
from ..metrics.neighbours import nearest, ranked
from ..metrics.precise import of_columns, tie
from ..metrics.task import Floats, Neighbours, Task
from .kept.indexes import index_of
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
    last = ranked(task, top, exact)[0][:, -1:]  # the similarity of the last of the true ones
    rows, everybody = [], np.arange(len(task.queries))
    for spec in specs:
        kept = index_of(task.bank, spec, folder)
        index = kept.index

        def search(_: Floats, queries: Floats, k: int, index: Index = index) -> Neighbours:
            return index.search(queries, k)

        started = time.perf_counter()
        similar, near = nearest(task.bank, task.queries, max(*protocol.k, COMPARED), task.excluded, search)
        seconds = time.perf_counter() - started
        shared = int((of_columns(task, everybody, near[:, :top]) >= last - tie(task.bank.shape[1])).sum())
        found = (np.where(near < 0, -2, similar).astype(np.float32), near)  # columns left empty come last
        judged = judge_by(protocol, task, found, exact=False)
        rows.append(
            IndexRow(
                index=spec, recall=shared / (top * len(near)), queries_per_second=len(task.queries) / seconds,
                build_seconds=kept.build_seconds, bytes=index.bytes,
                knn={f"k{k}": float(earned.mean()) for k, earned in judged.top1.items()}, note=kept.anew,
            )
        )  # fmt: skip
    return rows
