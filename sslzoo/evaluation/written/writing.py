"""Embeddings as files that other programs open: .npz, .csv and .parquet, with the names of files and classes."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from ...tools import files
from ...tools.errors import UserError, listing
from ...tools.labels import named, several
from ..embedding import Embedding, write_features
from ..given.parquet import needed
from ..given.rows import Array
from ..given.tables import MARK

SPLITS = ("train", "val", "test")
GROUP = 50_000  # rows of a parquet that are written at a time


def check_out(path: Path, suffixes: Iterable[str] | None = None) -> None:
    """Raise `UserError` for a file that cannot be written, or needs what is not installed.

    It may have these suffixes, by default those of embeddings.
    """
    allowed = [*(WRITERS if suffixes is None else suffixes)]
    if path.suffix not in allowed:
        shards = "" if suffixes is not None else ", or in none: a folder of shards"
        raise UserError(f"--out {path} has to end in {listing(allowed)}{shards}.")
    files.check_out(path, path.suffix)
    if path.suffix == ".parquet":
        needed(path)


def write(path: Path, embedding: Embedding) -> None:
    """Write an embedding. Raises `UserError` for features that are not finite, and where no file can be written."""
    for name, rows in embedding.arrays.items():
        if name.endswith("_features") and not np.isfinite(rows).all():
            raise UserError(f"{embedding.source} gives features that are not finite; its weights are of no use.")
    WRITERS[path.suffix](path, embedding)


def _csv(path: Path, embedding: Embedding) -> None:
    """Write a table of text, with the digits that each number takes; a row for each image, in the data's order."""

    def fill(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = rows_to(text)
        width = embedding.features.shape[1]
        heads = heads_of(embedding)
        writer(["file", "split", *heads, *(f"f{i}" for i in range(width))])
        for split, table in tables(embedding).items():
            for i, name in enumerate(table.files):
                row = table.places[i]
                numbers = [""] * width if row < 0 else [str(x) for x in table.features[row]]
                writer([name, split, *table.labels[i], *numbers])
        text.flush()
        text.detach()

    files.write(path, fill)


def rows_to(text: TextIO) -> Callable[[Sequence[str]], object]:
    """Return a function that writes rows of a CSV; one with a carriage return, which csv leaves bare, has quotes."""
    usual, quoted = csv.writer(text, lineterminator="\n"), csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return lambda row: (quoted if any("\r" in str(cell) for cell in row) else usual).writerow(row)


def _parquet(path: Path, embedding: Embedding) -> None:
    """Write a table whose column of features is one of lists of a fixed length; a row for each image."""
    arrow, parquet = needed(path)
    heads = heads_of(embedding)
    kind = arrow.from_numpy_dtype(embedding.features.dtype)
    width = embedding.features.shape[1]
    fields = [("file", arrow.string()), ("split", arrow.string()), *((name, arrow.string()) for name in heads)]
    fields = [*fields, *((f"f{i}", kind) for i in range(width))]

    def fill(file: BinaryIO) -> None:
        with parquet.ParquetWriter(file, arrow.schema(fields)) as writer:
            for split, table in tables(embedding).items():
                for start in range(0, len(table.files), GROUP):
                    part = slice(start, start + GROUP)
                    places = table.places[part]
                    gone = places < 0
                    rows = (
                        table.features[np.where(gone, 0, places)]
                        if len(table.features)
                        else np.zeros((len(places), width))
                    )
                    mask = gone if gone.any() else None
                    columns = [arrow.array(table.files[part]), arrow.array([split] * len(places))]
                    columns += [arrow.array([row[i] or None for row in table.labels[part]]) for i in range(len(heads))]
                    columns += [arrow.array(np.ascontiguousarray(rows[:, i]), kind, mask=mask) for i in range(width)]
                    writer.write_table(arrow.table(columns, schema=arrow.schema(fields)))

    files.write(path, fill)


class Table:
    """Holds a split as a table: its files and labels as texts, and the place of each image's features, -1 of none."""

    def __init__(self, features: Array, files: list[str], words: list[list[str]], places: Array):
        self.features, self.files, self.labels, self.places = features, files, words, places


def tables(embedding: Embedding) -> Mapping[str, Table]:
    """Return the splits of an embedding, with a row for each image, in the data's order."""
    return dict(_tables(embedding))


def _tables(embedding: Embedding) -> Iterator[tuple[str, Table]]:
    arrays, columns = embedding.arrays, len(heads_of(embedding))
    for split in SPLITS:
        if f"{split}_features" not in arrays:
            continue
        rows = arrays[f"{split}_features"]
        names = arrays.get(f"{split}_files", np.array([str(i) for i in range(len(rows))]))
        own = arrays.get(f"{split}_labels")
        said = [_words(None if own is None else own[i], embedding.names, columns) for i in range(len(rows))]
        found = [(as_utf8(str(names[i])), said[i], i) for i in range(len(rows))]
        for gap in (one for one in embedding.gaps if one.split == split):  # in ascending order
            found.insert(gap.place, (as_utf8(gap.file), _words(gap.label, embedding.names, columns), -1))
        files, words, places = ([*column] for column in zip(*found, strict=True))
        yield split, Table(rows, files, words, np.array(places))


def as_utf8(name: str) -> str:
    """Return a name of a file whose bytes are no UTF-8 with each of these as an escape, as in caf\\udce9.jpg."""
    return name.encode("utf-8", "backslashreplace").decode()


def _words(label: object, names: tuple[str, ...], columns: int) -> list[str]:
    """Return a label as texts: the name of its class, or 0 and 1; empty where it is not known."""
    if label is None:
        return [""] * columns
    marks = np.asarray(label)
    if marks.ndim:
        return [str(int(one)) if one >= 0 else "" for one in marks]
    return [named(int(marks), names) if marks >= 0 else ""]


def heads_of(embedding: Embedding) -> list[str]:
    """Return the names of the columns of labels: one, or one for each of several labels, by its name or its number."""
    labels = [array for key, array in embedding.arrays.items() if key.endswith("_labels") and several(array)]
    if not labels:
        return ["label"]
    return [MARK + name for name in embedding.names or map(str, range(labels[0].shape[1]))]


WRITERS: Mapping[str, Callable[[Path, Embedding], None]] = {
    ".npz": write_features, ".csv": _csv, ".parquet": _parquet,
}  # fmt: skip
