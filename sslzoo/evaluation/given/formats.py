"""Which formats of embeddings are read, by the suffixes of their files, and folders of such files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...tools.errors import UserError
from . import named, parquet, text
from .rows import Array, Rows, labels_of
from .tables import numbers_or_texts

Columns = Mapping[str, str]  # the name of a column, or of an array, by its role

ARRAYS: Mapping[str, Callable[[Path], named.Arrays]] = {
    ".npy": named.npy, ".npz": named.npz, ".pt": named.pt, ".safetensors": named.safetensors,
}  # fmt: skip
TABLES: Mapping[str, Callable[[Path, Columns], Rows]] = {".csv": text.read, ".parquet": parquet.read}
LABELS = {".csv": text.read_labels, ".parquet": parquet.read_labels}
WEIGHTS = (".pt", ".safetensors")  # of which a file may hold a network's weights, too
SHARDS = (".parquet", ".csv")  # of which a folder may hold many, in the order of their names


def read(path: Path, columns: Columns) -> Rows:
    """Return the rows of a file of embeddings, or of a folder of shards. Raises `UserError`."""
    if shards := shards_of(path):
        return joined([read(one, columns) for one in shards])
    if path.suffix in TABLES:
        return TABLES[path.suffix](path, columns)
    if path.suffix not in ARRAYS:
        known = ", ".join([*ARRAYS, *TABLES])
        raise UserError(f"{path} is no file of embeddings; they come in {known}, or in a folder of {SHARDS[0]} files.")
    return named.rows_of(path, ARRAYS[path.suffix](path), columns)


def shards_of(path: Path) -> list[Path]:
    """Return the files of a folder that holds tables of one format and nothing else, in the order of their names."""
    found = sorted(one for one in path.iterdir() if not one.name.startswith(".")) if path.is_dir() else []
    alike = [suffix for suffix in SHARDS if all(one.suffix == suffix for one in found)]
    return found if alike else []


def joined(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, one after another. Raises `UserError` where they are not alike."""
    if len({part.features.shape[1] for part in parts}) > 1:
        widths = ", ".join(str(part.features.shape[1]) for part in parts[:4])
        raise UserError(f"The files have features of several widths ({widths}); give those of one encoder.")
    found: dict[str, Array | None] = {}
    for role in ("labels", "files", "splits"):
        columns = [getattr(part, role) for part in parts]
        if len({one is None for one in columns}) > 1:
            raise UserError(f"Some of the files have {role} and others have none; give all the same columns.")
        found[role] = None if columns[0] is None else np.concatenate(columns)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return Rows(np.concatenate([part.features for part in parts]), **found, classes=parts[0].classes, notes=notes)


def read_labels(path: Path, columns: Columns) -> tuple[Array, Array | None]:
    """Return the labels of a file, and the names of the files that they are of, if it has them. Raises `UserError`.

    It is a table with a column of labels, or an array of labels; of a text file each line is one.
    """
    where = str(path)
    wanted = {role: name for role, name in columns.items() if role in ("labels", "files")}
    if path.suffix == ".txt":
        lines = text.lines(path)
        return numbers_or_texts(labels_of(where, np.array(lines, dtype=np.str_))), None
    if path.suffix in LABELS:
        return LABELS[path.suffix](path, wanted)
    if path.suffix in ARRAYS:
        arrays = ARRAYS[path.suffix](path)
        name = wanted.get("labels") or next(
            (one for one in ("labels", "label", "y", "features") if one in arrays), None
        )
        name = name or (next(iter(arrays)) if len(arrays) == 1 else None)
        if name is None or name not in arrays:
            has = ", ".join(arrays)
            raise UserError(f"{path} has {has}, and no name says which are the labels; say --column labels=NAME.")
        return labels_of(where, arrays[name]), None
    raise UserError(f"{path} is no file of labels; they come in .txt, {', '.join([*ARRAYS, *TABLES])}.")
