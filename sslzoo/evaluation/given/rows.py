"""Rows of an embedding as a file gives them: features, and what else it says of each row."""

import re
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
    of the labels 0, 1, ..., and ``notes`` say what was decided. ``columns`` are the names of the features' columns
    where these alone tell them apart, and ``unordered`` says that the rows are known by their files' names alone.
    """

    features: Array
    labels: Array | None = None
    files: Array | None = None
    splits: Array | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    unordered: bool = False

    def __post_init__(self) -> None:
        for what, column in (("labels", self.labels), ("files", self.files), ("splits", self.splits)):
            if column is not None and len(column) != len(self.features):
                raise UserError(f"There are {len(self.features)} rows of features and {len(column)} {what}; one a row.")

    def like(self, other: "Rows", where: str) -> "Rows":
        """Return rows whose columns of features and of labels have the order of others'.

        Raises `UserError` where they are not the same columns, as far as their names are known.
        """
        made = self
        if self.columns and other.columns and self.columns != other.columns:
            order = _order(self.columns, other.columns, "features", where)
            made = replace(made, features=self.features[:, order], columns=other.columns)
        elif bool(self.columns) != bool(other.columns):
            names = some(self.columns or other.columns, 4)
            said = f"columns of features are taken in their order, as {names} are names that not all of the files have"
            made = replace(made, notes=(*made.notes, said))
        labels = self.labels
        if labels is not None and labels.ndim == 2 and self.classes and other.classes and self.classes != other.classes:
            order = _order(self.classes, other.classes, "labels", where)
            made = replace(made, labels=labels[:, order], classes=other.classes)
        return made

    def take(self, places: Array) -> "Rows":
        """Return the rows at these places, or where a mask [N] says so; those that lie side by side are not copied."""
        some_rows: Array | slice = places
        there = np.flatnonzero(places) if places.dtype.kind == "b" else places
        if len(there) and there[-1] - there[0] + 1 == len(there) and (np.diff(there) == 1).all():
            some_rows = np.s_[there[0] : there[-1] + 1]
        labels, files, splits = (None if x is None else x[some_rows] for x in (self.labels, self.files, self.splits))
        return Rows(self.features[some_rows], labels, files, splits, self.classes, self.notes, self.columns)


def _order(own: Sequence[str], other: Sequence[str], what: str, where: str) -> list[int]:
    """Return the places of others' columns among one's own. Raises `UserError` where they are not the same."""
    if {*own} != {*other}:
        alone = sorted({*own} ^ {*other})
        raise UserError(f"{where} have not the same columns of {what} ({some(alone, 4)}); give all the same.")
    return [own.index(name) for name in other]


WHOLE = re.compile(r"(0|-?[1-9]\d{0,17})(\.0+)?")
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


def check_once(where: object, names: Sequence[str]) -> None:
    """Raise `UserError` for names of columns of which there is one twice."""
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"{where} has two columns {twice[0]!r}; give each its own name.")


def some(names: Sequence[str], most: int = 12) -> str:
    """Return names in a row, of many the first ones alone."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(map(str, names[:most])) or "none") + rest


def texts(where: str, column: Array, role: str) -> Array:
    """Return a column as texts [N], labels and splits without space around them.

    Raises `UserError` for one that is no list of names.
    """
    flat = np.ravel(column)
    if flat.dtype.kind == "S":
        flat = np.char.decode(flat, "utf-8", "replace")
    if flat.dtype.kind == "O":
        if any(np.ndim(one) or isinstance(one, list | dict) for one in flat):
            raise UserError(f"{where} has {role} that are lists; give one text a row.")
        flat = np.array(["" if one is None or one != one else str(one) for one in flat], dtype=np.str_)
    if len(flat) != len(column) or flat.dtype.kind not in "UTiu":
        raise UserError(f"{where} has {role} of kind {column.dtype} {list(column.shape)}; they have to be texts.")
    found: Array = flat.astype(np.str_)
    return found if role == "files" else np.char.strip(found)


def whole_numbers(labels: Array) -> Array:
    """Return labels as whole numbers where all are these, as a table of text has them, and as they are elsewhere.

    An empty one is -1. Texts with zeros in front are names: 01 is another class than 1.
    """
    if labels.dtype.kind != "U" or not all(WHOLE.fullmatch(one) or not one for one in np.unique(labels)):
        return labels
    return np.array([int(one.partition(".")[0]) if one else -1 for one in labels], np.int64)


def labels_of(where: str, column: Array) -> Array:
    """Return labels as they are given: whole numbers, texts, or 0 and 1 [N, C]; a missing one is -1 or an empty text.

    Raises `UserError` for what is none of these.
    """
    found = column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column
    if found.dtype.kind == "O":
        if any(np.ndim(one) or isinstance(one, list | dict) for one in np.ravel(found)):
            raise UserError(
                f"{where} has labels that are lists; give one a row, or a column label:NAME of 0 and 1 for each label."
            )
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
