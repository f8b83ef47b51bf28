"""Which formats of embeddings are read, by the suffixes of their files, and folders of such files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...metrics.rows import allocate
from ...tools.errors import UserError
from . import named, parquet, text
from .rows import Array, Rows, labels_of
from .tables import note_on_empty, numbers_or_texts, rows_with_features, without_empty

Columns = Mapping[str, str]  # the name of a column, or of an array, by its role

ARRAYS: Mapping[str, Callable[[Path], named.Arrays]] = {
    ".npy": named.npy, ".npz": named.npz, ".pt": named.pt, ".safetensors": named.safetensors,
}  # fmt: skip
TABLES: Mapping[str, Callable[[Path, Columns], Rows]] = {".csv": text.read, ".parquet": parquet.read}
LABELS = {".csv": text.read_labels, ".parquet": parquet.read_labels}
WEIGHTS = (".pt", ".safetensors")  # of which a file may hold a network's weights, too
BESIDE = ("labels", "files", "splits")  # columns that a file of features may have
SHARDS = (".parquet", ".csv")  # of which a folder may hold many, in the order of their names


def read(path: Path, columns: Columns) -> Rows:
    """Return the rows of a file of embeddings, or of a folder of shards. Raises `UserError`."""
    if shards := shards_of(path):
        return joined(shards, columns)
    if path.suffix in TABLES:
        return without_empty(TABLES[path.suffix](path, columns))
    if path.suffix not in ARRAYS:
        known = ", ".join([*ARRAYS, *TABLES])
        raise UserError(f"{path} is no file of embeddings; they come in {known}, or in a folder of {SHARDS[0]} files.")
    return named.rows_of(path, ARRAYS[path.suffix](path), columns)


def shards_of(path: Path) -> list[Path]:
    """Return the files of a folder that holds tables of one format and nothing else, in the order of their names."""
    found = sorted(one for one in path.iterdir() if not one.name.startswith(".")) if path.is_dir() else []
    alike = [suffix for suffix in SHARDS if all(one.suffix == suffix for one in found)]
    return found if alike else []


def joined(shards: Sequence[Path], columns: Columns) -> Rows:
    """Return the rows of all shards, one after another, which are read one at a time. Raises `UserError`.

    Their features are in memory once; those of .parquet are in a temporary file where memory does not hold them.
    """
    known = all(one.suffix == ".parquet" for one in shards)
    of, parts, made = sum(map(parquet.count, shards)) if known else 0, list[Rows](), np.empty((0, 0))
    rows = start = 0
    for one in shards:
        part = TABLES[one.suffix](one, columns)
        part = part.in_order_of(parts[0].classes, "The files") if parts else part
        rows += len(part.features)
        part = rows_with_features(part)
        if parts:
            check_alike(parts[0].features, part.features)
        elif known:
            made = allocate((of, part.features.shape[1]), part.features.dtype)
        if known:
            made[start : start + len(part.features)] = part.features
            start += len(part.features)
            part = replace(part, features=made[start - len(part.features) : start])
        parts.append(part)
    features = made[:start] if known else np.concatenate([part.features for part in parts])
    labels, files, splits = (_column(role, [getattr(part, role) for part in parts]) for role in BESIDE)
    joint = Rows(features, labels, files, splits, parts[0].classes)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return replace(joint, notes=(*notes, *note_on_empty(joint, rows)))


def check_alike(first: Array, other: Array) -> None:
    """Raise `UserError` for features of shards that have not as many columns, or not the same kind of number."""
    if first.shape[1] != other.shape[1]:
        widths = f"{first.shape[1]}, {other.shape[1]}"
        raise UserError(f"The files have features of several widths ({widths}); give those of one encoder.")
    if not np.can_cast(other.dtype, first.dtype, "same_kind"):
        raise UserError(f"The files have features of {first.dtype} and of {other.dtype}; give all the same kind.")


def _column(role: str, parts: Sequence[Array | None]) -> Array | None:
    """Return a column of all shards. Raises `UserError` where some have it and others not."""
    there = [part for part in parts if part is not None]
    if not there:
        return None
    if len(there) < len(parts):
        raise UserError(f"Some of the files have {role} and others have none; give all the same columns.")
    if len({part.dtype.kind == "U" for part in there}) > 1:  # a shard in which all classes are numbers, or unknown
        there = [part if part.dtype.kind == "U" else np.where(part == -1, "", part.astype(np.str_)) for part in there]
    return np.concatenate(there)


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
