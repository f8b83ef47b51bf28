"""Embeddings in CSV files, with a line of names above the rows."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...data.given.sheet import read_sheet
from ...tools.errors import UserError
from .rows import Array, Rows, chosen
from .tables import MARK, feature_columns, labels_in, rows_of_columns

LOOKED_AT = 16  # rows whose digits say whether they were float32
DELIMITERS = ",;\t|"


def read(path: Path, columns: Mapping[str, str]) -> Rows:
    """Return the rows of a CSV with a line of names above. Raises `UserError`.

    Numbers are float32 where the first rows have the digits that float32 is written with, else float64.
    """
    head, delimiter = header(path)
    where = str(path)
    roles = chosen({role: name for role, name in columns.items() if role != "features"}, head, where)
    roles.pop("features", None)
    wordy = [name for name in head if name in roles.values() or name.startswith(MARK)]
    first = _cells(path, delimiter, LOOKED_AT)
    numeric = [name for i, name in enumerate(head) if name not in wordy and all(_is_number(row[i]) for row in first)]
    names, notes = feature_columns(where, numeric, columns.get("features"))
    places = [head.index(name) for name in names]
    features = _numbers(path, delimiter, places)
    said = _cells(path, delimiter, None, [head.index(name) for name in wordy])
    column = {name: np.array([row[i] for row in said], dtype=np.str_) for i, name in enumerate(wordy)}
    return rows_of_columns(where, features, roles, column, notes)


def read_labels(path: Path, columns: Mapping[str, str]) -> tuple[Array, Array | None]:
    """Return the labels of a CSV, and the names of files beside them, if it has these. Raises `UserError`."""
    sheet = read_sheet(path, None, narrow=True)
    check_names(path, sheet.head)
    found = {name: np.array([row[i] for row in sheet.rows], dtype=np.str_) for i, name in enumerate(sheet.head)}
    return labels_in(str(path), found, columns)


def header(path: Path) -> tuple[list[str], str]:
    """Return the names in a CSV's first line, and what is between them. Raises `UserError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text in UTF-8 ({type(error).__name__}); save it anew.") from None
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    check_names(path, names)
    return names, delimiter


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise `UserError` for a first line that has no names of columns, or one twice."""
    if not any(names):
        raise UserError(f"{path} is empty; give a CSV with a line of names above its rows.")
    if all(map(_is_number, names)):
        raise UserError(f"{path} begins with numbers, and its first line has to be the names of its columns; add one.")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"{path} has two columns {twice[0]!r}; give each its own name.")


def _cells(path: Path, delimiter: str, most: int | None, places: Sequence[int] | None = None) -> list[list[str]]:
    """Return the cells of a CSV below its header, of some columns and of so many rows at most. Raises `UserError`."""
    found: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter)
            width = len(next(reader))
            for row in reader:
                if not row:
                    continue
                if len(row) != width:
                    raise UserError(
                        f"{path} has {len(row)} cells in line {reader.line_num}, and {width} names; mend it."
                    )
                found.append(row if places is None else [row[i] for i in places])
                if len(found) == most:
                    break
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is broken ({error}); save it anew.") from None
    if not found:
        raise UserError(f"{path} has no rows; give a row for each image.")
    return found


def _numbers(path: Path, delimiter: str, places: Sequence[int]) -> Array:
    """Return some columns of a CSV as numbers [N, D]; an empty cell is nan. Raises `UserError`."""
    try:
        found = _loaded(path, delimiter, places, None)
    except ValueError:  # empty cells, it may be, which take ten times as long
        try:
            found = _loaded(path, delimiter, places, lambda cell: float(cell) if cell.strip() else np.nan)
        except ValueError as error:
            raise UserError(f"{path} has a cell that is no number among its features ({error}); mend it.") from None
    narrow = found[:LOOKED_AT].astype(np.float32)
    as_written = np.array([float(str(x)) for x in np.ravel(narrow)]).reshape(narrow.shape)
    same = np.array_equal(as_written, found[:LOOKED_AT], equal_nan=True)
    return found.astype(np.float32) if same else found


def _loaded(path: Path, delimiter: str, places: Sequence[int], read: Callable[[str], float] | None) -> Array:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return np.loadtxt(
            file, np.float64, comments=None, delimiter=delimiter, skiprows=1, usecols=places, ndmin=2, quotechar='"',
            converters=read,
        )  # fmt: skip


def _is_number(cell: str) -> bool:
    try:
        float(cell)
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
