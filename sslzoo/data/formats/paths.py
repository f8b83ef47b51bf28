"""A CSV of paths: a file and its label a row, and perhaps its split."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...tools.errors import UserError, did_you_mean, listing
from ...tools.progress import Work
from ..decoded.ranges import Range
from ..given.places import Listing
from ..given.sheet import MISSING, read_sheet, without_missing
from ..home import some
from .rows import Found, Rows, common_root, split_word, to_listing
from .spelling import Spelled

IMAGE = ("file", "path", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img_path")
LABEL = ("label", "class", "label_name", "class_name", "category")
SPLIT = ("split", "set", "subset")


def listed(spelled: Spelled, shown: Range | None) -> Listing:
    """Return the images of a CSV, whose first line names its columns. Raises `UserError`."""
    path = Path(os.path.abspath(spelled.text))
    sheet = read_sheet(path, "--data", narrow=True)
    if not sheet.rows:
        raise UserError(f"{path} has no rows; give a line that names the columns, and a line a file below.")
    head, lines = sheet.head, [*zip(sheet.lines, sheet.rows, strict=True)]
    image = _column(head, spelled.image, IMAGE, f"{path} has no column of files", spelled.hint("image"))
    split = next((head.index(name) for name in head if name.lower() in SPLIT), None)
    rest = [i for i in range(len(head)) if i not in (image, split)]
    label, several, notes = _labels(spelled, head, lines, rest)
    files = [_file(cells[image], path.parent) for _, cells in lines]
    _check_there(files, path)
    kept = _without_repeats(files, lines, [i for i in (label, split, *several) if i is not None], path)
    if len(kept) < len(lines):
        notes.append(f"files that are named twice, alike, count once: {len(lines) - len(kept)} rows are left out")
    classes, said = ([], []) if label is None else without_missing(head[label], (lines[i][1][label] for i in kept))
    notes += said
    found: dict[str, Rows] = {}
    marks: dict[str, list[list[int]]] = {}
    for row, place in enumerate(kept):
        number, cells = lines[place]
        name = "" if split is None else _split(cells[split], path, number)
        rows = found.setdefault(name, Rows())
        rows.texts.append(files[place])
        if label is not None:
            rows.labels.append(classes[row] or None)
        if several:
            marks.setdefault(name, []).append([_mark(cells[i]) for i in several])
    for name, rows in found.items():
        if several:
            rows.table = np.array(marks[name], np.int8)
            rows.table[(rows.table < 0).any(axis=1)] = -1
    root = common_root(files, path.parent)
    names = [head[i] for i in several]
    return to_listing(Found(path.stem, root, found, names, notes), spelled.given, shown)


def _column(head: Sequence[str], asked: str | None, usual: Sequence[str], lacks: str, hint: str) -> int:
    """Return the place of a column: the one that is asked for, or the only one of the usual names."""
    if asked is not None:
        if asked not in head:
            raise UserError(f"There is no column {asked!r}{did_you_mean(asked, head)}; there are {listing(head)}.")
        return head.index(asked)
    places = [i for i, name in enumerate(head) if name.lower() in usual]
    if len(places) != 1:
        why = f"{lacks}, only {listing(head)}" if not places else f"{listing(head[i] for i in places)} may all be meant"
        raise UserError(f"{why}; say which it is: {hint}.")
    return places[0]


def _labels(
    spelled: Spelled, head: Sequence[str], lines: Sequence[tuple[int, Sequence[str]]], rest: Sequence[int]
) -> tuple[int | None, list[int], list[str]]:
    """Return the column of classes, or several of 0 and 1, and what is said of them. Raises `UserError`."""
    usual = [i for i in rest if head[i].lower() in LABEL]
    if spelled.label is not None or usual:
        place = _column(head, spelled.label, LABEL, "", spelled.hint("label"))
        left_out = [head[i] for i in rest if i != place]
        return place, [], [f"columns that are not used: {some(left_out)}"] if left_out else []
    if not rest:
        return None, [], []
    if len(rest) > 1 and all(cells[i].strip() in ("0", "1", *MISSING) for _, cells in lines for i in rest):
        return None, [*rest], []
    raise UserError(
        f"{spelled.text} has no column called {' or '.join(LABEL[:2])}, only {listing(head[i] for i in rest)}; say "
        f"which it is: {spelled.hint('label')}."
    )


def _mark(cell: str) -> int:
    return -1 if cell.strip() in MISSING else int(cell)


def _split(cell: str, path: Path, number: int) -> str:
    if (found := split_word([cell.strip()])) is None:
        raise UserError(f"Line {number} of {path} has the split {cell!r}; what it can be is train, val or test.")
    return found


def _file(cell: str, folder: Path) -> str:
    """Return the path of a cell, as `Path` spells it; one with backslashes that is not there so has slashes."""
    text = os.path.expanduser(cell.strip())
    own = folder / text
    if "\\" in text and not own.exists():
        own = folder / text.replace("\\", "/")
    return str(own) if ".." not in own.parts else os.path.join(os.path.realpath(own.parent), own.name)


def _check_there(files: Sequence[str], path: Path) -> None:
    """Raise `UserError` where files that are named are not there."""
    missing = []
    with Work("files looked for", len(files)) as work:
        for file in files:
            if not os.path.isfile(file):
                missing.append(file)
            work.add(1)
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"{len(missing):,} of the {len(files):,} files that {path} names {are} not there, first {missing[0]}; "
            "paths count from the folder of the CSV."
        )


def _without_repeats(
    files: Sequence[str], lines: Sequence[tuple[int, Sequence[str]]], told: Sequence[int], path: Path
) -> list[int]:
    """Return the places of the rows that first name their file. Raises `UserError` where others say something else."""
    first: dict[str, int] = {}
    for place, file in enumerate(files):
        before = first.setdefault(file, place)
        mine, other = ([lines[one][1][i].strip() for i in told] for one in (place, before))
        if mine != other:
            raise UserError(
                f"Lines {lines[before][0]} and {lines[place][0]} of {path} say different things of {file}; keep one."
            )
    return [*first.values()]
