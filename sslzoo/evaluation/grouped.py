"""The table of a grouping: a row for each image with its names, as .csv or .parquet."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..metrics.clusters import NOISE, Clusters
from ..metrics.task import Doubles, Ints
from ..tools import files
from ..tools.labels import named, numbers
from .embedding import Embedding
from .given.parquet import needed
from .written.writing import SPLITS, heads_of, rows_to, tables

SUFFIXES = (".csv", ".parquet")
Columns = Mapping[str, list[Any]]


class Grouped(Protocol):
    """Is what the table says of rows [N]."""

    @property
    def clusters(self) -> Clusters: ...
    @property
    def nearest(self) -> Ints: ...
    @property
    def similarity(self) -> Doubles: ...
    @property
    def factor(self) -> Doubles: ...
    @property
    def group(self) -> Ints: ...
    @property
    def outliers(self) -> Ints: ...


def names_of(embedding: Embedding) -> list[str]:
    """Return the name of each row, of all splits: its file, or its split and place as in ``test:7``."""
    found: list[str] = []
    for split in SPLITS:
        if (rows := embedding.arrays.get(f"{split}_features")) is not None:
            there = [str(name) for name in embedding.arrays.get(f"{split}_files", ())]
            numbered = there in ([], [str(i) for i in range(len(rows))])  # arrays of images have no other names
            found += [f"{split}:{i}" for i in range(len(rows))] if numbered else there
    return found


def labels_of(embedding: Embedding) -> list[list[str]]:
    """Return the labels of each row, of all splits, by their names; none where they are not known."""
    found: list[list[str]] = []
    for split in SPLITS:
        if (rows := embedding.arrays.get(f"{split}_features")) is not None:
            labels = np.asarray(embedding.arrays.get(f"{split}_labels", np.full(len(rows), -1)))
            labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
            labels = np.where(np.isnan(labels), -1, labels) if labels.dtype.kind == "f" else labels
            found += [[named(i, embedding.names) for i in numbers(label)] for label in labels]
    return found


def table(embedding: Embedding, names: Sequence[str], found: Grouped) -> Columns:
    """Return the columns of the table, with a row for each image in the data's order.

    One that could not be read has its names and its label alone, and None elsewhere.
    """
    of_rows, made, start = _of_rows(names, found), dict[str, list[Any]](), 0
    for split, part in tables(embedding).items():
        places = [-1 if place < 0 else start + int(place) for place in part.places]
        start += len(part.features)
        heads = heads_of(embedding)
        files_ = [file if i < 0 else names[i] for i, file in zip(places, part.files, strict=True)]
        columns: dict[str, list[Any]] = {"file": files_, "split": [split] * len(places)}
        columns |= {head: [words[j] or None for words in part.labels] for j, head in enumerate(heads)}
        columns |= {key: [None if i < 0 else values[i] for i in places] for key, values in of_rows.items()}
        for key, values in columns.items():
            made.setdefault(key, []).extend(values)
    return made


def _of_rows(names: Sequence[str], found: Grouped) -> Columns:
    """Return what is known of each row; None where there is nothing to say, as for a row of no cluster."""
    outlier = np.zeros(len(names), bool)
    outlier[found.outliers] = True
    return {
        "cluster": [None if i == NOISE else i for i in found.clusters.of_rows.tolist()],
        "similarity": [None if x != x else x for x in found.clusters.similarity.tolist()],
        "nearest": [names[i] for i in found.nearest],
        "nearest_similarity": found.similarity.tolist(),
        "duplicates": [None if i < 0 else i for i in found.group.tolist()],
        "outlier_factor": found.factor.tolist(),
        "outlier": outlier.tolist(),
    }


def write(path: Path, columns: Columns) -> None:
    """Write a table by its suffix, whole or not at all. Raises `UserError`."""
    if path.suffix == ".csv":
        text = io.StringIO(newline="")
        write_row = rows_to(text)
        write_row([*columns])
        for row in zip(*columns.values(), strict=True):
            write_row(row)
        files.write(path, text.getvalue())
        return
    arrow, parquet = needed(path)
    kinds = {"cluster": arrow.int64(), "duplicates": arrow.int64(), "outlier": arrow.bool_()}
    kinds |= {key: arrow.float64() for key in ("similarity", "nearest_similarity", "outlier_factor")}
    made = arrow.table({key: arrow.array(values, kinds.get(key, arrow.string())) for key, values in columns.items()})
    files.write(path, lambda file: parquet.write_table(made, file))
