"""Labels in a table: which column names the images and which their labels, and the label of each image."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ...tools.errors import UserError, did_you_mean
from ..home import count, natural, some
from .sheet import MISSING, Sheet, unnamed, without_missing

Array = npt.NDArray[Any]

LABEL = ("label", "labels", "class", "classes", "classname", "category", "target", "species", "y")
SPLIT = ("split", "set", "subset", "partition")
SPLIT_WORDS = {  # cells of such a column, in small letters
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "val",
}  # fmt: skip
ABSENT, PRESENT = ("0", "0.0", "false"), ("1", "1.0", "true")
WHOLE = re.compile(r"(-?\d{1,18})(\.0+)?")
LOOKED_AT = 1000  # rows by which the column of files is found
BETWEEN = "|"  # of several labels in one cell

Find = Callable[[str], int | None]


@dataclass(frozen=True)
class Labels:
    """Holds the labels of images: classes, int64 [N], or several each, int8 [N, C]; -1 where there are none.

    ``names`` are those of the classes, or of the columns. ``splits`` are the words of a column of splits, "" of an
    image without. ``notes`` say what was decided.
    """

    labels: Array
    names: Sequence[str]
    splits: Sequence[str] | None
    notes: Sequence[str]


@dataclass(frozen=True)
class Roles:
    """Names the columns of a table: of files, of labels, one or several, and of splits."""

    file: str
    labels: Sequence[str]
    split: str | None
    notes: Sequence[str] = ()


def plain(name: str) -> str:
    """Return the name of a column in small letters, without what parts its words."""
    return re.sub(r"[\W_]", "", name).lower()


def file_column(sheet: Sheet, find: Find) -> tuple[Sheet, str]:
    """Return the table and its column of files: that of whose first rows the most name images, the first of these.

    A number may be an image's bare name and a class, so that names with a suffix count more.

    Where the first line names an image, too, it is a row, and no head. Raises `UserError` where no column names any.
    """
    first = {name: [*islice(sheet.column(name), LOOKED_AT)] for name in sheet.head}
    hits = {name: sum(_names(find, cell) * (1 + ("." in cell)) for cell in cells) for name, cells in first.items()}
    best = max(hits, key=lambda name: hits[name])
    if _names(find, best):
        place = sheet.head.index(best)
        sheet = sheet.headless()
        return sheet, sheet.head[place]
    if not hits[best]:  # which may be below the first rows
        for name in sheet.head:
            if any(_names(find, cell) for cell in sheet.column(name)):
                return sheet, name
        shown = sheet.rows[0] if sheet.rows else sheet.head
        raise UserError(
            f"No row of {sheet.path} names an image (the first has {some(shown)}); name files by their paths below the "
            "data's folder or the table's."
        )
    return sheet, best


def _names(find: Find, cell: str) -> bool:
    """Return whether a cell names an image, or several."""
    try:
        return find(cell.strip()) is not None
    except UserError:
        return True


def roles(sheet: Sheet, file: str, asked: Sequence[str], needed: bool = True) -> Roles:
    """Return which columns are labels and splits; ``asked`` are those that a person named as labels.

    Raises `UserError` where that cannot be known, and where there are none, if they are ``needed``.
    """
    rest = [name for name in sheet.head if name != file and not unnamed(name)]
    for name in asked:
        if name not in rest:
            raise UserError(
                f"{sheet.path} has no column {name!r} of labels{did_you_mean(name, rest)}, but {some(rest)}."
            )
    split = next((name for name in rest if plain(name) in SPLIT and name not in asked), None)
    if split is not None and not all(cell.lower() in SPLIT_WORDS for cell in sheet.column(split) if cell):
        split = None
    rest = [name for name in rest if name != split]
    named = [name for name in rest if plain(name) in LABEL]
    if asked or len(named) == 1 or len(rest) == 1:
        chosen = asked or named or rest
        left = [name for name in rest if name not in chosen]
        word = "labels are the column" if len(chosen) == 1 else "labels are the columns"
        notes = [f"{word} {', '.join(chosen)} of {sheet.path.name}; left out: {some(left)}"] if left else []
        return Roles(file, chosen, split, notes)
    if len(rest) > 1 and not named and all(_is_binary(sheet.column(name)) for name in rest):
        return Roles(file, rest, split)
    if not rest and not needed:
        return Roles(file, (), split)
    if not rest:
        raise UserError(f"{sheet.path} has no column of labels beside {file}; give one.")
    raise UserError(
        f"{sheet.path} has the columns {some(named or rest)}, and nobody knows which is the label; say it behind a "
        f"colon, as in --labels {sheet.path}:{(named or rest)[0]}."
    )


def _is_binary(cells: Sequence[str]) -> bool:
    return all(_mark(cell) is not None for cell in {*cells})


def _mark(cell: str) -> int | None:
    """Return 0 or 1 of a cell that says so, -1 of an empty or negative one, and None of another."""
    word = cell.lower()
    if cell in MISSING or (WHOLE.fullmatch(word) and word.startswith("-")):
        return -1
    return 0 if word in ABSENT else 1 if word in PRESENT else None


def attach(sheet: Sheet, what: Roles, find: Find, images: int) -> Labels:
    """Return the labels of so many images, each of whose rows ``find`` gives the place of.

    Rows of files that are not there are counted in a note. Raises `UserError` for rows that contradict each other, and
    for names that may be those of several images.
    """
    row_of = np.full(images, -1)
    missing: list[str] = []
    cleaned = [without_missing(name, sheet.column(name)) for name in what.labels]
    labels = [cells for cells, _ in cleaned]
    splits = sheet.column(what.split) if what.split is not None else None
    told = list(zip(*labels, *([splits] if splits is not None else []), strict=True)) or [()] * len(sheet.rows)
    for row, name in enumerate(sheet.column(what.file)):
        try:
            place = find(name)
        except UserError as error:
            raise UserError(f"{sheet.path}, line {sheet.lines[row]}: {error}.") from None
        if place is None:
            missing.append(f"{name or 'an empty cell'} in line {sheet.lines[row]}")
            continue
        first = row_of[place]
        if first >= 0 and told[first] != told[row]:
            raise UserError(
                f"{sheet.path} says two things of {name}: {', '.join(told[first])} in line {sheet.lines[first]} and "
                f"{', '.join(told[row])} in line {sheet.lines[row]}; keep one of the rows."
            )
        row_of[place] = row if first < 0 else first
    rows = row_of.tolist()
    notes = [*what.notes, *(note for _, said in cleaned for note in said)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        notes.append(f"{count(len(missing), 'row')} of {sheet.path.name} {are} of no image here: {some(missing)}")
    if without := rows.count(-1):
        have = "image has" if without == 1 else "images have"
        notes.append(f"{without} {have} no row in {sheet.path.name}")
    found, names, said = _told(sheet, what.labels, labels, rows)
    words = None if splits is None else [SPLIT_WORDS.get(splits[row].lower(), "") if row >= 0 else "" for row in rows]
    return Labels(found, names, words, (*notes, *said))


def _told(
    sheet: Sheet, columns: Sequence[str], cells: Sequence[Sequence[str]], rows: Sequence[int]
) -> tuple[Array, Sequence[str], Sequence[str]]:
    """Return labels of images by their rows, the names of the classes or columns, and notes."""
    if not columns:
        return np.full(len(rows), -1), (), ()
    if len(columns) > 1:
        return _of_columns(sheet, columns, cells, rows)
    (column,) = cells
    words = [column[row] if row >= 0 else "" for row in rows]
    if all(not word or WHOLE.fullmatch(word) for word in words):
        words = [re.sub(r"\.0+$", "", word) for word in words]
        words = ["" if word.startswith("-") else word for word in words]  # a mark of none
    if any(BETWEEN in word for word in words):
        return _of_lists(columns[0], words)
    names = sorted({*words} - {""}, key=natural)
    number = {name: place for place, name in enumerate(names)} | {"": -1}
    return np.array([number[word] for word in words], np.int64), names, ()


def _of_columns(
    sheet: Sheet, columns: Sequence[str], cells: Sequence[Sequence[str]], rows: Sequence[int]
) -> tuple[Array, Sequence[str], Sequence[str]]:
    """Return the labels of columns of 0 and 1; where each row has one 1, the columns are classes."""
    for name, column in zip(columns, cells, strict=True):
        if not _is_binary(column):
            other = next(cell for cell in column if _mark(cell) is None)
            raise UserError(f"{sheet.path} has {other!r} in the column {name}; several columns of labels hold 0 and 1.")
    marks = np.array([[_mark(cell) for cell in column] for column in cells], np.int8).T
    found = np.full((len(rows), len(columns)), -1, np.int8)
    here = np.array(rows) >= 0
    found[here] = marks[np.array(rows)[here]]
    found[(found < 0).any(axis=1)] = -1
    known = found[found[:, 0] >= 0]
    if len(known) and (known.sum(axis=1) == 1).all():
        note = f"{len(columns)} columns of labels with one 1 in each row are taken for as many classes"
        return np.where(found[:, 0] < 0, -1, found.argmax(axis=1)), columns, [note]
    return found, columns, ()


def _of_lists(column: str, words: Sequence[str]) -> tuple[Array, Sequence[str], Sequence[str]]:
    """Return the labels of cells that list several, as ``cat|dog``."""
    lists = [[one.strip() for one in word.split(BETWEEN) if one.strip()] for word in words]
    names = sorted({one for words in lists for one in words}, key=natural)
    number = {name: place for place, name in enumerate(names)}
    found = np.full((len(words), len(names)), -1, np.int8)
    for place, listed in enumerate(lists):
        if listed:
            found[place] = 0
            found[place, [number[one] for one in listed]] = 1
    return found, names, [f"cells of {column} list several labels with {BETWEEN} between them"]
