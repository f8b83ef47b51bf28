"""Tables of embeddings, whatever the format: which columns hold features, and what a column of labels says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...tools.errors import UserError
from .rows import Array, Rows, chosen, labels_of, some, texts

MARK = "label:"  # what a column begins with of 0 and 1, of one of several labels that a row may have
NUMBERED = re.compile(r"(.*?)[_.-]?(\d+)")


def feature_columns(where: str, numeric: Sequence[str], wanted: str | None) -> tuple[list[str], list[str]]:
    """Return the columns that hold features, in the order of their numbers, and notes on what was decided.

    They are a series with one name and the numbers 0, 1, ... or 1, 2, ... behind it, as f0, f1, ...; without one, all
    numeric columns. ``wanted`` is the name of a series. Raises `UserError` where there are several, or none.
    """
    series: dict[str, dict[int, str]] = {}
    for name in numeric:
        if found := NUMBERED.fullmatch(name):
            series.setdefault(found[1], {})[int(found[2])] = name
    whole = {
        stem: [names[number] for number in sorted(names)] for stem, names in series.items()
        if sorted(names) in ([*range(len(names))], [*range(1, len(names) + 1)])
    }  # fmt: skip
    if wanted is not None:
        if wanted not in whole:
            raise UserError(
                f"{where} has no columns {wanted}0, {wanted}1, ... of numbers, but {some(numeric)}; name others with "
                "--column features=NAME."
            )
        return whole[wanted], []
    longest = max(map(len, whole.values()), default=0)
    largest = [stem for stem, names in whole.items() if len(names) == longest]
    if longest > 1 and len(largest) == 1:
        names = whole[largest[0]]
        left = [name for name in numeric if name not in {*names}]
        note = f"features are {names[0]} to {names[-1]}" + (f"; left out: {some(left)}" if left else "")
        return names, [note] if left else []
    if longest > 1:
        stems = ", ".join(stem or "(numbers alone)" for stem in largest)
        raise UserError(
            f"{where} has several series of columns ({stems}), each of which may be the features; say which with "
            f"--column features={largest[0]}."
        )
    if not numeric:
        raise UserError(f"{where} has no column of numbers; give embeddings, a row for each image.")
    return [*numeric], [f"features are all of its columns of numbers: {some(numeric)}"]


def rows_of_columns(
    where: str, features: Array, roles: Mapping[str, str], column: Mapping[str, Array], notes: list[str]
) -> Rows:
    """Return rows of features and of the columns beside them, by their roles. Raises `UserError`."""
    marks = [name for name in column if name.startswith(MARK)]
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    if "labels" in roles:
        labels = numbers_or_texts(labels_of(where, column[roles["labels"]]))
    elif marks:
        several = [numbers_or_texts(labels_of(where, column[name])) for name in marks]
        if any(one.dtype.kind not in "iub" for one in several):
            raise UserError(f"{where} has columns {MARK}... that are not all 0 or 1; mend them.")
        labels, classes = np.stack(several, axis=1), tuple(name.removeprefix(MARK) for name in marks)
    files, splits = (texts(where, column[roles[r]], r) if r in roles else None for r in ("files", "splits"))
    return Rows(features, labels, files, splits, classes, tuple(notes))


def numbers_or_texts(labels: Array) -> Array:
    """Return labels as whole numbers where all of them are, an empty one being -1, and as they are elsewhere."""
    if labels.dtype.kind != "U":
        return labels
    if all(re.fullmatch(r"-?\d{1,18}", one) or not one for one in np.unique(labels)):
        return np.array([int(one) if one else -1 for one in labels], np.int64)
    return labels


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
        raise UserError("None of the rows has features; give some that do.")
    gone = of - len(kept.features)
    return (f"{gone} of {of} rows have no features and are left out",) if gone else ()


def labels_in(where: str, found: Mapping[str, Array], columns: Mapping[str, str]) -> tuple[Array, Array | None]:
    """Return the labels of a table, and the names of files beside them, if it has these. Raises `UserError`."""
    roles = chosen({role: name for role, name in columns.items() if name in found}, [*found], where)
    rest = [name for name in found if name not in roles.values()]
    name = roles.get("labels") or (rest[0] if len(rest) == 1 else None)
    if name is None:
        raise UserError(f"{where} has {some([*found])}, and none is named label; say --column labels=NAME.")
    files = texts(where, found[roles["files"]], "files") if "files" in roles else None
    return numbers_or_texts(labels_of(where, found[name])), files
