"""Tables of embeddings, whatever the format: which columns hold features, and what a column of labels says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ...data.given.sheet import unnamed
from ...tools.errors import UserError
from .rows import Array, Rows, chosen, labels_of, some, texts, whole_numbers

MARK = "label:"  # what a column begins with of 0 and 1, of one of several labels that a row may have
NUMBERED = re.compile(r"(.*?)[_.-]?(\d+)")
NOTHING = "None of the rows has features; give some that do."
INDEX = ("id", "ids", "idx", "index", "row", "__index_level_0__")  # names of columns that number rows; pandas' the last


Labels: TypeAlias = tuple[Array, Array | None, list[str]]  # of rows, the names of their files where known, and notes


@dataclass(frozen=True)
class FeatureColumns:
    """Names the columns that hold features, in their order; ``by_name`` says that no numbers give that order."""

    names: Sequence[str]
    notes: Sequence[str] = ()
    by_name: bool = False

    @property
    def told_apart(self) -> tuple[str, ...]:
        """The names, where they alone say which column is which."""
        return (*self.names,) if self.by_name else ()


def roles_of(columns: Mapping[str, str], names: Sequence[str], numeric: Sequence[str], where: str) -> dict[str, str]:
    """Return the column of each role, as `chosen` does; numbers x and y are the axes of a map, and y no label."""
    axes = [name for name in numeric if name.lower() in ("x", "y")]
    plane = len(axes) == 2 and not {*axes} & {*columns.values()}
    return chosen(columns, [name for name in names if not (plane and name in axes)], where)


def feature_columns(
    where: str, numeric: Sequence[str], wanted: str | None, others: Mapping[str, str] | None = None
) -> FeatureColumns:
    """Return the columns that hold features, in the order of their numbers, and notes on what was decided.

    They are a series with one name and the numbers 0, 1, ... or 1, 2, ... behind it, as f0, f1, ...; without one, all
    numeric columns. ``wanted`` is the name of a series, and ``others`` are columns that hold more than numbers, with
    an example of it. Raises `UserError` where there are several series, or none, and where a series has such a column.
    """
    others = others or {}
    whole = _series(numeric)
    longest = max(map(len, whole.values()), default=0)
    for stem, names in _series([*numeric, *others]).items():
        broken = [name for name in names if name in others]
        if broken and len(names) > len(broken) + 1 and (stem == wanted or len(names) > longest):
            raise UserError(
                f"{where} has {others[broken[0]]} in the column {broken[0]}, one of {names[0]} to {names[-1]}; mend "
                "it, or leave the cell empty."
            )
    if wanted is not None:
        if wanted not in whole:
            raise UserError(
                f"{where} has no columns {wanted}0, {wanted}1, ... of numbers, but {some(numeric)}; name others with "
                "--column features=NAME."
            )
        return FeatureColumns(whole[wanted])
    largest = [stem for stem, names in whole.items() if len(names) == longest]
    if longest > 1 and len(largest) == 1:
        names = whole[largest[0]]
        left = [name for name in [*numeric, *others] if name not in {*names} and not unnamed(name)]
        said = f"features are {names[0]} to {names[-1]}; left out: {some(left)}"
        return FeatureColumns(names, [said] if left else [])
    if longest > 1:
        stems = ", ".join(stem or "(numbers alone)" for stem in largest)
        raise UserError(
            f"{where} has several series of columns ({stems}), each of which may be the features; say which with "
            f"--column features={largest[0]}."
        )
    taken = [name for name in numeric if not unnamed(name) and name.lower() not in INDEX]
    if not taken:
        raise UserError(f"{where} has no column of numbers; give embeddings, a row for each image.")
    left = [name for name in [*numeric, *others] if name not in taken and not unnamed(name)]
    beside = f"; left out: {some(left)}" if left else ""
    return FeatureColumns(taken, [f"features are all of its columns of numbers: {some(taken)}{beside}"], by_name=True)


def _series(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each whole series, by what their names begin with, in the order of their numbers."""
    numbers: dict[str, dict[int, str]] = {}
    for name in names:
        if found := NUMBERED.fullmatch(name):
            numbers.setdefault(found[1], {})[int(found[2])] = name
    return {
        stem: [own[number] for number in sorted(own)] for stem, own in numbers.items()
        if sorted(own) in ([*range(len(own))], [*range(1, len(own) + 1)])
    }  # fmt: skip


def rows_of_columns(
    where: str, features: Array, roles: Mapping[str, str], column: Mapping[str, Array], of: FeatureColumns
) -> Rows:
    """Return rows of features and of the columns beside them, by their roles. Raises `UserError`."""
    marks = [name for name in column if name.startswith(MARK)]
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    if "labels" in roles:
        labels = labels_of(where, column[roles["labels"]])
    elif marks:
        several = [whole_numbers(_as_digits(labels_of(where, column[name]))) for name in marks]
        if any(one.dtype.kind not in "iub" for one in several):
            raise UserError(f"{where} has columns {MARK}... that are not all 0 or 1; mend them.")
        labels, classes = np.stack(several, axis=1), tuple(name.removeprefix(MARK) for name in marks)
    files, splits = (texts(where, column[roles[r]], r) if r in roles else None for r in ("files", "splits"))
    return Rows(features, labels, files, splits, classes, (*of.notes,), of.told_apart)


def _as_digits(marks: Array) -> Array:
    """Return texts True and False, as pandas writes them, as 1 and 0; others as they are."""
    if marks.dtype.kind != "U":
        return marks
    words = np.char.lower(marks)
    return np.where(words == "true", "1", np.where(words == "false", "0", marks))


def without_empty(rows: Rows) -> Rows:
    """Return rows without those that have no features at all, as images have that could not be read; a note says so.

    Raises `UserError` where none is left.
    """
    kept = rows_with_features(rows)
    return rows if kept is rows else replace(kept, notes=(*kept.notes, *note_on_empty(kept, len(rows.features))))


def rows_with_features(rows: Rows) -> Rows:
    """Return rows without those that have no features at all, all of which are nan."""
    whole = rows.features.dtype.kind != "f"
    empty = np.zeros(len(rows.features), bool) if whole else np.asarray(np.isnan(rows.features).all(axis=1))
    return rows.take(~empty) if empty.any() else rows


def note_on_empty(kept: Rows, of: int) -> tuple[str, ...]:
    """Return a note on rows that were left out of so many, if any were. Raises `UserError` where none is left."""
    if not len(kept.features):
        raise UserError(NOTHING)
    gone = of - len(kept.features)
    return (f"{gone} of {of} rows have no features and are left out",) if gone else ()


def labels_in(where: str, found: Mapping[str, Array], columns: Mapping[str, str]) -> Labels:
    """Return the labels of a table, and the names of files beside them, if it has these. Raises `UserError`."""
    roles = chosen({role: name for role, name in columns.items() if name in found}, [*found], where)
    rest = [name for name in found if name not in roles.values()]
    name = roles.get("labels") or (rest[0] if len(rest) == 1 else None)
    if name is None:
        raise UserError(f"{where} has {some([*found])}, and none is named label; say --column labels=NAME.")
    files = texts(where, found[roles["files"]], "files") if "files" in roles else None
    return labels_of(where, found[name]), files, []
