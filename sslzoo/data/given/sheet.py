"""Tables of text as spreadsheets and programs write them: rows of cells, whatever parts the cells."""

import codecs
import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...tools.errors import UserError
from ...tools.files import read_regular

PARTED_BY = (",", ";", "\t", "|")
LARGEST = 2_000_000_000  # bytes of a table
LOOKED_AT = 1 << 16  # letters by which the kind of a table is guessed, before all of it is read
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MISSING = frozenset(  # what pandas reads as a cell that is missing
    [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
        "",
    ]
)


@dataclass(frozen=True)
class Sheet:
    """Holds the rows of a table, each of as many cells as ``head`` has names, and the line at which each ends."""

    path: Path
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, without space around them."""
        place = self.head.index(name)
        return [row[place].strip() for row in self.rows]

    def headless(self) -> "Sheet":
        """Return the table whose first line is a row like the others; its columns are known by their numbers."""
        head = [f"column {place}" for place, _ in enumerate(self.head, 1)]
        return replace(self, head=head, rows=[self.head, *self.rows], lines=[1, *self.lines])


def read_sheet(path: Path, option: str | None = "--labels", narrow: bool = False) -> Sheet:
    """Return the table in a .csv or .tsv file, of UTF-8 or UTF-16, parted by commas, semicolons, tabs or bars.

    Empty lines are left out. A ``narrow`` one may have a single column. Raises `UserError` for a file that is no such
    table.
    """
    give = f"give {option}" if option else "give"
    try:
        content = read_regular(path, LARGEST)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; {give} a table that is there.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {give} another table.") from None
    try:
        text = content.decode(encoding(content))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not in UTF-8; save it as 'CSV UTF-8'.") from None
    said = text.partition("\n")[0].strip()
    parted_by: Sequence[str] = PARTED_BY
    if (told := told_by_excel(said)) is not None:
        parted_by, text = (told,), text.partition("\n")[2]
    if not text.strip(' \t\r\n,;|"'):
        raise UserError(f"{path} is empty; give a table with a row for each image.")
    try:
        tables = []
        for one in _likely(text, parted_by):
            rows, lines = table = _cells(text, one)
            alone = narrow and not any(letter in said for letter in PARTED_BY)
            if rows and (len(rows[0]) > 1 or alone) and len({*map(len, rows)}) == 1:
                return Sheet(path, [name.strip() for name in rows[0]], rows[1:], lines[1:])
            tables.append(table)
    except csv.Error as error:
        raise UserError(f"{path} is no table ({error}); save it as CSV anew.") from None
    raise UserError(f"{path} {_why_not(tables)}.")


def _likely(text: str, parted_by: Sequence[str]) -> list[str]:
    """Return what may part cells, the likeliest first: by which the first rows have the most cells, all as many."""
    start = text[:LOOKED_AT]
    found = []
    for one in parted_by:
        rows = _cells(start, one)[0]
        rows = rows[:-1] if len(start) < len(text) and len(rows) > 1 else rows  # the last may be cut off
        found.append((len({*map(len, rows)}) == 1, len(rows[0]) if rows else 0))
    return [parted_by[place] for place in sorted(range(len(found)), key=lambda place: found[place], reverse=True)]


def _cells(text: str, parted_by: str) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a text, and the line at which each ends."""
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=parted_by)
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append(row)
            lines.append(reader.line_num)
    return rows, lines


def _why_not(tables: Sequence[tuple[list[list[str]], list[int]]]) -> str:
    """Return why a text is no table, as a predicate."""
    rows, lines = max(tables, key=lambda one: len(one[0][0]))
    width = len(rows[0])
    if width == 1:
        return "has one column; give the file's name and its label in each row, with a comma between them"
    line, row = next((line, row) for line, row in zip(lines, rows, strict=True) if len(row) != width)
    return f"has {len(row)} cells in line {line} and {width} in the first; quote cells that have a comma in them"


def encoding(content: bytes) -> str:
    """Return how a table's text is encoded, by its first bytes."""
    return "utf-16" if content.startswith(UTF16) else "utf-8-sig"


def told_by_excel(line: str) -> str | None:
    """Return what parts the cells where a table's first line says so, as Excel's ``sep=;``; None for another line."""
    word = line.strip(" \r\n")
    return word[4] if word.lower().startswith("sep=") and len(word) == 5 else None


def without_missing(name: str, cells: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return a column's cells without space around them, empty where they are missing, and notes on words for that."""
    found = [cell.strip() for cell in cells]
    words = Counter(cell for cell in found if cell and cell in MISSING)
    said = f"{sum(words.values()):,} of {name} say {' or '.join(sorted(words))}, which counts as none"
    return ["" if cell in MISSING else cell for cell in found], [said] if words else []


def unnamed(name: str) -> bool:
    """Return whether a column is one that pandas wrote for its index."""
    return not name or name.startswith("Unnamed:")


def beside(path: Path) -> str:
    """Return the folder of a table, whole."""
    return os.path.dirname(os.path.abspath(path))
