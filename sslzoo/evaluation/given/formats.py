"""Which formats of embeddings are read, by the suffixes of their files, and folders of such files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from ...data.home import natural
from ...metrics.rows import allocate
from ...tools.errors import UserError
from . import named, parquet, text
from .rows import Array, Rows, labels_of
from .tables import NOTHING, Labels, note_on_empty, rows_with_features, without_empty

Columns = Mapping[str, str]  # the name of a column, or of an array, by its role

ARRAYS: Mapping[str, Callable[[Path], named.Arrays]] = {
    ".npy": named.npy, ".npz": named.npz, ".pt": named.pt, ".pth": named.pt, ".safetensors": named.safetensors,
}  # fmt: skip
TABLES: Mapping[str, Callable[[Path, Columns], Rows]] = {
    ".csv": text.read, ".tsv": text.read, ".parquet": parquet.read,
}  # fmt: skip
LABELS = {".csv": text.read_labels, ".tsv": text.read_labels, ".parquet": parquet.read_labels}
WEIGHTS = (".pt", ".pth", ".safetensors")  # of which a file may hold a network's weights, too
BESIDE = ("labels", "files", "splits")  # columns that a file of features may have
MOST = 10_000  # names that are looked at to say why a folder is none of shards
SHARDS = (".parquet", ".csv")  # of which a folder may hold many, in the order of the numbers in their names


def read(path: Path, columns: Columns) -> Rows:
    """Return the rows of a file of embeddings, or of a folder of shards. Raises `UserError`."""
    if shards := shards_of(path):
        return joined(shards, columns)
    if suffix(path) in TABLES:
        found = TABLES[suffix(path)](path, columns)
        if not len(found.features):
            raise UserError(f"{path} has no rows; give a row for each image.")
        return without_empty(found)
    if suffix(path) not in ARRAYS:
        known = ", ".join([*ARRAYS, *TABLES])
        raise UserError(f"{path} is no file of embeddings; they come in {known}, or in a folder of {SHARDS[0]} files.")
    return named.rows_of(path, ARRAYS[suffix(path)](path), columns)


def suffix(path: Path) -> str:
    """Return the suffix by which a file's format is known, in small letters."""
    return path.suffix.lower()


def shards_of(path: Path) -> list[Path]:
    """Return the files of a folder that holds tables of one format and nothing else, by the numbers in their names.

    What begins with a dot or an underscore, as Spark's _SUCCESS, is none of them.
    """
    there = [one for one in path.iterdir() if not one.name.startswith((".", "_"))] if path.is_dir() else []
    alike = [kind for kind in SHARDS if all(suffix(one) == kind for one in there)]
    return sorted(there, key=lambda one: natural(one.name)) if alike else []


def beside_shards(folder: Path) -> str | None:
    """Return what in a folder of .parquet files is none of them; None where there are no such files."""
    there = sorted(one for one in islice(folder.rglob("*"), MOST) if not one.name.startswith((".", "_")))
    if not any(suffix(one) == ".parquet" for one in there):
        return None
    others = (one for one in there if one.is_dir() or suffix(one) != ".parquet")
    return next((str(one.relative_to(folder)) for one in others), None)


def joined(shards: Sequence[Path], columns: Columns) -> Rows:
    """Return the rows of all shards, one after another, which are read one at a time. Raises `UserError`.

    Their features are in memory once; those of .parquet are in a temporary file where memory does not hold them.
    """
    known = suffix(shards[0]) == ".parquet"
    of, parts, made = sum(map(parquet.count, shards)) if known else 0, list[Rows](), np.empty((0, 0))
    rows = start = 0
    for one in shards:
        part = TABLES[suffix(one)](one, columns)
        rows += len(part.features)
        part = rows_with_features(part)
        if not len(part.features):
            continue
        if parts:
            part = part.like(parts[0], "The files")
            check_alike(parts[0].features, part.features)
        elif known:
            made = allocate((of, part.features.shape[1]), part.features.dtype)
        if known:
            kind = np.result_type(made.dtype, part.features.dtype)
            if kind != made.dtype:  # the first had narrower numbers
                narrow, made = made, allocate(made.shape, kind)
                made[:start] = narrow[:start]
            made[start : start + len(part.features)] = part.features
            start += len(part.features)
            part = replace(part, features=made[start - len(part.features) : start])
        parts.append(part)
    if not parts:
        raise UserError(NOTHING)
    features = made[:start] if known else np.concatenate([part.features for part in parts])
    labels, files, splits = (_column(role, [getattr(part, role) for part in parts]) for role in BESIDE)
    joint = Rows(features, labels, files, splits, parts[0].classes, columns=parts[0].columns)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    by_number = () if [*shards] == sorted(shards) else (
        f"its files follow each other by the numbers in their names, from {shards[0].name} to {shards[-1].name}",
    )  # fmt: skip
    return replace(joint, notes=(*notes, *by_number, *note_on_empty(joint, rows)))


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
    if len({part.ndim for part in there}) > 1:
        raise UserError(f"Some of the files have one column of {role} and others have several; give all the same.")
    if len({part.dtype.kind == "U" for part in there}) > 1:  # a shard in which all classes are numbers, or unknown
        there = [part if part.dtype.kind == "U" else np.where(part == -1, "", part.astype(np.str_)) for part in there]
    return np.concatenate(there)


def read_labels(path: Path, columns: Columns) -> Labels:
    """Return the labels of a file, and the names of the files that they are of, if it has them. Raises `UserError`.

    It is a table with a column of labels, or an array of labels; of a text file each line is one.
    """
    where = str(path)
    wanted = {role: name for role, name in columns.items() if role in ("labels", "files")}
    if suffix(path) == ".txt":
        return labels_of(where, np.array(text.lines(path), dtype=np.str_)), None, []
    if suffix(path) in LABELS:
        return LABELS[suffix(path)](path, wanted)
    if suffix(path) in ARRAYS:
        arrays = ARRAYS[suffix(path)](path)
        name = wanted.get("labels") or next(
            (one for one in ("labels", "label", "y", "features") if one in arrays), None
        )
        name = name or (next(iter(arrays)) if len(arrays) == 1 else None)
        if name is None or name not in arrays:
            has = ", ".join(arrays)
            raise UserError(f"{path} has {has}, and no name says which are the labels; say --column labels=NAME.")
        return labels_of(where, arrays[name]), None, []
    raise UserError(f"{path} is no file of labels; they come in .txt, {', '.join([*ARRAYS, *TABLES])}.")
