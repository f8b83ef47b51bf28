"""Rows of an embedding as a file gives them: features, and what else it says of each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...tools.errors import UserError, listing

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Holds features [N, D], and where they are known the labels, file names and splits of the rows.

    Labels are whole numbers or texts [N], or 0 and 1 [N, C]; files and splits are texts [N]. ``classes`` are the names
    of the labels 0, 1, ..., and ``notes`` say what was decided.
    """

    features: Array
    labels: Array | None = None
    files: Array | None = None
    splits: Array | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, column in (("labels", self.labels), ("files", self.files), ("splits", self.splits)):
            if column is not None and len(column) != len(self.features):
                raise UserError(f"There are {len(self.features)} rows of features and {len(column)} {what}; one a row.")

    def in_order_of(self, classes: tuple[str, ...], where: str) -> "Rows":
        """Return rows whose columns of labels have this order. Raises `UserError` where they are of other classes."""
        if self.classes == classes or self.labels is None or self.labels.ndim != 2:
            return self
        if {*self.classes} != {*classes}:
            other = sorted({*self.classes} ^ {*classes})
            raise UserError(f"{where} have not the same columns of labels ({some(other, 4)}); give all the same.")
        order = [self.classes.index(name) for name in classes]
        return replace(self, labels=self.labels[:, order], classes=classes)

    def take(self, places: Array) -> "Rows":
        """Return the rows at these places, or where a mask [N] says so; those that lie side by side are not copied."""
        some_rows: Array | slice = places
        there = np.flatnonzero(places) if places.dtype.kind == "b" else places
        if len(there) and there[-1] - there[0] + 1 == len(there) and (np.diff(there) == 1).all():
            some_rows = np.s_[there[0] : there[-1] + 1]
        labels, files, splits = (None if x is None else x[some_rows] for x in (self.labels, self.files, self.splits))
        return Rows(self.features[some_rows], labels, files, splits, self.classes, self.notes)


ROLES: Mapping[str, Sequence[str]] = {  # what a column is taken for by its name, whose letters may be capital
    "features": ("features", "feature", "embeddings", "embedding", "emb", "vector", "vectors", "feats", "x"),
    "labels": ("labels", "label", "class", "class_name", "category", "target", "targets", "y"),
    "files": ("file", "files", "file_name", "filename", "filepath", "path", "paths", "image_path", "names"),
    "splits": ("split", "splits", "subset", "partition"),
    "classes": ("classes", "class_names"),
}


def chosen(columns: Mapping[str, str], names: Sequence[str], where: str) -> dict[str, str]:
    """Return the name of the column that has each role: those that a person chose, else those that the names say.

    Raises `UserError` for a column that is not there, for a role that is none, and where two columns could have one.
    """
    found = {}
    for role, name in columns.items():
        if role not in ROLES:
            raise UserError(f"--column {role}={name} names no role; it is one of {listing(ROLES)}.")
        if name not in names:
            raise UserError(f"{where} has no column {name!r}; it has {some(names)}.")
        found[role] = name
    taken = {*found.values()}
    for role, usual in ROLES.items():
        if role in found:
            continue
        alike = [name for name in names if name.lower() in usual and name not in taken]
        if len(alike) > 1:
            raise UserError(
                f"{where} has {' and '.join(alike)}, each of which may be the {role}; say which with --column "
                f"{role}={alike[0]}."
            )
        if alike:
            found[role] = alike[0]
    return found


def some(names: Sequence[str], most: int = 12) -> str:
    """Return names in a row, of many the first ones alone."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(map(str, names[:most])) or "none") + rest


def texts(where: str, column: Array, role: str) -> Array:
    """Return a column as texts [N]. Raises `UserError` for one that is no list of names."""
    flat = np.ravel(column)
    if flat.dtype.kind == "S":
        flat = np.char.decode(flat, "utf-8", "replace")
    if flat.dtype.kind == "O":
        flat = np.array(["" if one is None or one != one else str(one) for one in flat], dtype=np.str_)
    if len(flat) != len(column) or flat.dtype.kind not in "UTiu":
        raise UserError(f"{where} has {role} of kind {column.dtype} {list(column.shape)}; they have to be texts.")
    return flat.astype(np.str_)


def labels_of(where: str, column: Array) -> Array:
    """Return labels as they are given: whole numbers, texts, or 0 and 1 [N, C]; a missing one is -1 or an empty text.

    Raises `UserError` for what is none of these.
    """
    found = column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column
    if found.dtype.kind == "O":
        missing = np.array([one is None or one != one for one in np.ravel(found)])
        kinds = {type(one) for one, gone in zip(np.ravel(found), missing, strict=True) if not gone}
        if kinds <= {bool, int, np.int64, np.int32, np.bool_} and found.ndim == 1:
            return np.array([-1 if gone else int(one) for one, gone in zip(found, missing, strict=True)], np.int64)
        return texts(where, found, "labels")
    if found.dtype.kind in "SU":
        return texts(where, found, "labels")
    if found.dtype.kind not in "fiub" or found.ndim not in (1, 2):
        raise UserError(f"{where} has labels of kind {found.dtype} {list(found.shape)}; give one a row.")
    return found
