"""The bank and the queries of an embedding: which split is which, and what its labels have to be."""

import numpy as np

from ..metrics.index import Exact
from ..metrics.knn import check
from ..metrics.rows import matrix, unit_rows
from ..metrics.task import Task
from ..tools.errors import UserError
from ..tools.labels import NOBODY, NOT_BINARY, asking, known, read_labels
from .embedding import Embedding

NAME_THEM = (
    "one label per row: --column labels=NAME says which column or array has them, --bank FILE --bank-labels FILE and "
    "--query-labels FILE name files."
)


def make_task(embedding: Embedding, leave_one_out: bool) -> Task:
    """Return the bank and the queries of an embedding, which searches on the embedding's device.

    They are its training and its test split; left one out, they are the test split, or the only one there is, twice.
    Raises `UserError` where labels are missing or do not belong to the features.
    """
    arrays = embedding.arrays
    used = splits_of(embedding, leave_one_out)
    alone = used[0] == used[1]
    missing = [f"{split}_labels" for split in dict.fromkeys(used) if f"{split}_labels" not in arrays]
    if missing:
        notes = () if embedding.images is None else embedding.images.notes
        why = " and ".join(
            note.partition(": kNN")[0] for note in notes if note.startswith(NOBODY) or NOT_BINARY in note
        )
        columns = f" ({embedding.note})" if embedding.note and embedding.images is None else ""
        said = f": {why}" if why else f" lacks {', '.join(missing)}{columns}"
        raise UserError(
            f"{embedding.source}{said}, so there is no kNN and no retrieval; give "
            + (NAME_THEM if embedding.images is None else "data with labels, one per image.")
        )
    given = [matrix(f"{embedding.source}: {split}_features", arrays[f"{split}_features"]) for split in used]
    names = [f"{embedding.source}: {split}_features" for split in used]
    rows = [unit_rows(*named) for named in zip(names[: 2 - alone], given, strict=False)]
    labels = [read_labels(f"{embedding.source}: {split}_labels", arrays[f"{split}_labels"]) for split in used]
    check(rows[0], labels[0], rows[-1], labels[1])
    kept = [known(labels[0]), asking(labels[1])]
    if not all(some.any() for some in kept):
        nobody = [f"{split}_labels" for split, some in zip(used, kept, strict=True) if not some.any()]
        raise UserError(f"{embedding.source} has no label from 0 on in {nobody[0]}; give labels.")
    if labels[0].ndim == 2:
        labels = [x > 0 for x in labels]
    excluded = (np.cumsum(kept[0]) - 1)[kept[1]] if alone else None  # a query's place in the bank
    (bank, given[0], labels[0]), (queries, given[1], labels[1]) = (
        (x, whole, of_rows) if some.all() else (x[some], whole[some], of_rows[some])
        for x, whole, of_rows, some in zip((rows[0], rows[-1]), given, labels, kept, strict=True)
    )
    if alone and len(bank) < 2:
        raise UserError(f"{embedding.source} has one row, and leaving it out leaves none; give more.")
    if alone and labels[0].ndim == 1 and len(np.unique(labels[0])) == len(bank):
        raise UserError(
            f"{embedding.source} has no two rows of one label, so that no neighbour can be right; say which are the "
            "labels with --column labels=NAME, or give others."
        )
    return Task(bank, labels[0], queries, labels[1], excluded, Exact(embedding.device), (given[0], given[1]))


def splits_of(embedding: Embedding, leave_one_out: bool) -> tuple[str, str]:
    """Return the names of the splits that are bank and queries: "train" and "test", or one of them twice."""
    has_test = "test_features" in embedding.arrays
    alone = "test" if has_test else "train"
    return ("train", "test") if has_test and not leave_one_out else (alone, alone)
