"""The bank and the queries of an embedding: which split is which, and what its labels have to be."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..metrics.index import Exact
from ..metrics.knn import check
from ..metrics.rows import matrix, unit_rows
from ..metrics.task import Labels, Task
from ..tools.bounds import whole_numbers
from ..tools.errors import UserError
from .sources import Embedding


def make_task(embedding: Embedding, leave_one_out: bool) -> Task:
    """Return the bank and the queries of an embedding, which searches on the embedding's device.

    They are its training and its test split; left one out, they are the test split, or the only one there is, twice.
    Raises `UserError` where labels are missing or do not belong to the features.
    """
    arrays = embedding.arrays
    alone = leave_one_out or "test_features" not in arrays
    used = ("test" if "test_features" in arrays else "train",) * 2 if alone else ("train", "test")
    missing = [f"{split}_labels" for split in dict.fromkeys(used) if f"{split}_labels" not in arrays]
    if missing:
        raise UserError(
            f"{embedding.source} lacks {', '.join(missing)}, so there is no kNN and no retrieval; give "
            + ("one label per row." if embedding.images is None else "data with labels, one per image.")
        )
    given = [matrix(f"{embedding.source}: {split}_features", arrays[f"{split}_features"]) for split in used]
    names = [f"{embedding.source}: {split}_features" for split in used]
    rows = [unit_rows(*named) for named in zip(names[: 2 - alone], given, strict=False)]
    labels = [read_labels(f"{embedding.source}: {split}_labels", arrays[f"{split}_labels"]) for split in used]
    kept = [np.ones(len(x), bool) if x.ndim == 2 else x >= 0 for x in labels]  # a negative label is none
    if not all(some.all() for some in kept) and all(len(x) == len(some) for x, some in zip(given, kept, strict=True)):
        if not all(some.any() for some in kept):
            raise UserError(f"{embedding.source} has no label from 0 on in one of its splits; give labels.")
        given = [x[some] for x, some in zip(given, kept, strict=True)]
        labels = [x[some] for x, some in zip(labels, kept, strict=True)]
        rows = [x[some] for x, some in zip(rows, kept, strict=False)]
    bank, queries = rows[0], rows[-1]
    check(bank, labels[0], queries, labels[1])
    if labels[0].shape[1:] != labels[1].shape[1:]:
        raise UserError(f"{embedding.source} has other labels in its two splits; give both the same columns.")
    if alone and len(bank) < 2:
        raise UserError(f"{embedding.source} has one row, and leaving it out leaves none; give more.")
    excluded = np.arange(len(bank)) if alone else None
    return Task(bank, labels[0], queries, labels[1], excluded, Exact(embedding.device), (given[0], given[1]))


def read_labels(name: str, labels: npt.NDArray[Any]) -> Labels:
    """Return labels as whole numbers [N], or as [N, C] true where a row has a label. Raises `UserError`."""
    x = np.asarray(labels)
    if x.ndim == 2 and x.shape[1] > 1:
        if not np.isin(x, (0, 1)).all():
            raise UserError(f"{name} has {x.shape[1]} columns, so they have to be 0 or 1; or number the classes.")
        return x.astype(bool)
    return whole_numbers(name, x)
