"""Embeddings in CSV files, with a line of names above the rows."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ...data.given.sheet import PARTED_BY, encoding, read_sheet, told_by_excel, without_missing
from ...tools.errors import UserError, in_a_line
from .rows import Array, Rows, check_once
from .tables import MARK, FeatureColumns, Labels, feature_columns, labels_in, roles_of, rows_of_columns

LOOKED_AT = 16  # rows whose digits say whether they were float32
START = 1 << 20  # bytes among which the line of names is looked for
LIST = re.compile(r"\s*(\[.*\])?\s*", re.DOTALL)
FRACTION = re.compile(r"\s*[-+]?\d*\.\d+([eE][-+]?\d+)?\s*")
DECIMAL_COMMA = re.compile(r"\s*-?\d*,\d+([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class Layout:
    """Says how a table of text is written: its encoding, its lines above the rows, the names, what parts cells."""

    path: Path
    encoding: str
    above: int
    head: Sequence[str]
    parted_by: str
    comma: bool = False  # which numbers have in place of a point


def read(path: Path, columns: Mapping[str, str]) -> Rows:
    """Return the rows of a CSV with a line of names above. Raises `UserError`.

    Numbers are float32 where the first rows have the digits that float32 is written with, else float64.
    """
    layout, where = layout_of(path), str(path)
    head = layout.head
    if not (first := _cells(layout, LOOKED_AT)):
        return Rows(np.empty((0, 0), np.float32))
    commas, points = (any(kind.fullmatch(cell) for row in first for cell in row) for kind in (DECIMAL_COMMA, FRACTION))
    commas = commas and not points and layout.parted_by != ","  # else they part thousands, and are no numbers
    layout = replace(layout, comma=commas)
    strange = {name: next((r[i] for r in first if not _is_number(r[i], commas)), None) for i, name in enumerate(head)}
    numeric = [name for name in head if strange[name] is None]
    roles = roles_of({role: name for role, name in columns.items() if role != "features"}, head, numeric, where)
    named = columns.get("features") or roles.pop("features", None)
    wordy = [name for name in head if name in roles.values() or name.startswith(MARK)]
    others = {name: repr(cell) for name, cell in strange.items() if cell is not None and name not in wordy}
    lists = [name for name in others if all(LIST.fullmatch(row[head.index(name)]) for row in first)]
    if own := named if named in lists else lists[0] if len(lists) == 1 and columns.get("features") is None else None:
        of = FeatureColumns([own], [f"features are {own}, its only column of lists"] if own != named else [])
        features = _lists(layout, head.index(own))
    else:
        of = feature_columns(where, [name for name in numeric if name not in wordy], columns.get("features"), others)
        features = _numbers(layout, [head.index(name) for name in of.names])
    said = _cells(layout, None, [head.index(name) for name in wordy])
    column = {name: [row[i] for row in said] for i, name in enumerate(wordy)}
    notes = [*of.notes, *(["numbers have a decimal comma"] if commas else [])]
    for name in wordy:
        if name == roles.get("labels") or name.startswith(MARK):
            column[name], missing = without_missing(name, column[name])
            notes += missing
    rows = {name: np.array(cells, dtype=np.str_) for name, cells in column.items()}
    return rows_of_columns(where, features, roles, rows, replace(of, notes=notes))


def read_labels(path: Path, columns: Mapping[str, str]) -> Labels:
    """Return the labels of a CSV, the names of files beside them, if it has these, and notes. Raises `UserError`."""
    sheet = read_sheet(path, None, narrow=True)
    check_names(path, sheet.head)
    found = {name: np.array([row[i] for row in sheet.rows], dtype=np.str_) for i, name in enumerate(sheet.head)}
    labels, files, _ = labels_in(str(path), found, columns)
    cells, notes = without_missing("labels", labels.tolist())
    return np.array(cells, dtype=np.str_), files, notes


def layout_of(path: Path) -> Layout:
    """Return how a CSV is written, by its first lines. Raises `UserError` for what is none."""
    try:
        with path.open("rb") as file:
            coded = encoding(file.read(4))
        with path.open(newline="", encoding=coded) as file:
            lines = file.read(START).splitlines(keepends=True)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8 ({type(error).__name__}); save it anew.") from None
    told = told_by_excel(lines[0]) if lines else None
    above = int(told is not None)
    above += next((i for i, line in enumerate(lines[above:]) if line.strip()), 0)
    line = lines[above] if lines[above:] else ""
    parted_by = told or max(PARTED_BY, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=parted_by), [])]
    check_names(path, names)
    return Layout(path, coded, above + 1, names, parted_by)


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise `UserError` for a first line that has no names of columns, or one twice."""
    if not any(names):
        raise UserError(f"{path} is empty; give a CSV with a line of names above its rows.")
    if all(_is_number(name, False) for name in names) or any(FRACTION.fullmatch(name) for name in names):
        raise UserError(f"{path} begins with numbers, and its first line has to be the names of its columns; add one.")
    check_once(path, names)


def _cells(layout: Layout, most: int | None, places: Sequence[int] | None = None) -> list[list[str]]:
    """Return the cells of a CSV below its header, of some columns and of so many rows at most. Raises `UserError`."""
    found: list[list[str]] = []
    width = len(layout.head)
    try:
        with layout.path.open(newline="", encoding=layout.encoding) as file:
            reader = csv.reader(islice(file, layout.above, None), delimiter=layout.parted_by)
            for row in reader:
                if not row:
                    continue
                if len(row) != width:
                    raise UserError(
                        f"{layout.path} has {len(row)} cells in line {layout.above + reader.line_num}, and {width} "
                        "names; mend it."
                    )
                found.append(row if places is None else [row[i] for i in places])
                if len(found) == most:
                    break
    except (csv.Error, UnicodeError) as error:
        raise UserError(f"{layout.path} is broken ({error}); save it anew.") from None
    return found


def _numbers(layout: Layout, places: Sequence[int]) -> Array:
    """Return some columns of a CSV as numbers [N, D]; an empty cell is nan. Raises `UserError`."""
    why = ""
    for read_cell in (_with_comma,) if layout.comma else (None, _or_nan):  # the last takes ten times as long
        try:
            return _narrowed(_loaded(layout, places, read_cell))
        except ValueError as error:  # empty cells, it may be
            why = str(error)
    raise UserError(f"{layout.path} has a cell that is no number among its features ({why}); mend it.")


def _lists(layout: Layout, place: int) -> Array:
    """Return a column of lists, as ``[0.1, 0.2]``, as numbers [N, D]; an empty cell is nan. Raises `UserError`."""
    cells = [row[0] for row in _cells(layout, None, [place])]
    try:
        lists = [json.loads(cell) if cell.strip() else None for cell in cells]
        width = len(next(one for one in lists if one is not None))
        found = np.array([[np.nan] * width if one is None else one for one in lists], np.float64)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{layout.path} has lists in {layout.head[place]} that are not all of as many numbers, as [0.1, 0.2] "
            f"({in_a_line(error)}); write them so, or a column for each number."
        ) from None
    return _narrowed(found)


def _narrowed(found: Array) -> Array:
    """Return numbers as float32 where the first rows have the digits that float32 is written with."""
    narrow = found[:LOOKED_AT].astype(np.float32)
    as_written = np.array([float(str(x)) for x in np.ravel(narrow)]).reshape(narrow.shape)
    same = np.array_equal(as_written, found[:LOOKED_AT], equal_nan=True)
    return found.astype(np.float32) if same else found


def _loaded(layout: Layout, places: Sequence[int], read: Callable[[str], float] | None) -> Array:
    with layout.path.open(newline="", encoding=layout.encoding) as file:
        return np.loadtxt(
            file, np.float64, comments=None, delimiter=layout.parted_by, skiprows=layout.above, usecols=places,
            ndmin=2, quotechar='"', converters=read,
        )  # fmt: skip


def _or_nan(cell: str) -> float:
    """Return the number of a cell; nan of an empty one."""
    return float(cell) if cell.strip() else np.nan


def _with_comma(cell: str) -> float:
    """Return the number of a cell, whose comma is a decimal one; nan of an empty one."""
    return _or_nan(cell.replace(",", "."))


def _is_number(cell: str, comma: bool) -> bool:
    try:
        float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return not cell.strip()
    return True


def lines(path: Path) -> list[str]:
    """Return the lines of a text file. Raises `UserError`."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8 ({type(error).__name__}); save it anew.") from None
