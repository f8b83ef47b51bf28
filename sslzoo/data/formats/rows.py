"""Images as formats list them, a row each, and what a data set makes of these: splits, classes and what is said."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...tools.errors import UserError, listing
from ...tools.labels import SEVERAL
from ..contents.hashes import Hashes
from ..decoded.ranges import Range
from ..given.places import Listing
from ..home import count, natural, some
from ..images import FileImages
from ..layout import SPLITS
from ..listed.paths import Paths
from ..packed.index import Index
from ..splits import Split
from ..unreadable import UnreadableImages

Label = str | int | None  # a class by its name or its number; None of an image without


@dataclass
class Rows:
    """Holds images of one split in their order: paths and labels, or a table of labels [N, C] of 0 and 1.

    ``labels`` is empty where no image has one; each index is of a file that holds some of the images.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    packed: list[Index] = field(default_factory=list)
    table: npt.NDArray[np.int8] | None = None

    def add(self, other: "Rows") -> None:
        """Add the images of another file of the same split."""
        if bool(other.labels) != bool(self.labels):  # of half of the images nobody says what they are
            for rows in (self, other):
                rows.labels = rows.labels or [None] * len(rows.texts)
        self.texts += other.texts
        self.labels += other.labels
        self.packed += other.packed


@dataclass
class Found:
    """Holds what a format has found: the rows of each split, and where their paths begin.

    ``name`` is the data set's. ``names`` are those of the classes 0, 1, ..., where the data say them, or of the columns
    of a table. ``notes`` are sentences on what was decided.
    """

    name: str
    root: Path
    splits: dict[str, Rows]
    names: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


def as_label(found: Any) -> Label:
    """Return a cell as a class, by its number or its name; None for a gap, and for a number below 0."""
    if isinstance(found, bytes):
        found = found.decode("utf-8", "replace")
    if isinstance(found, str):
        return found.strip() or None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, int):
        return int(found) if found >= 0 else None
    return None


def split_word(words: Sequence[str]) -> str | None:
    """Return the split that words name, "train", "val" or "test"; None where they name none, or several."""
    found = {split for word in words for split, names in SPLITS.items() if word.lower() in names}
    return found.pop() if len(found) == 1 else None


def split_files(files: Sequence[Path], root: Path) -> dict[str, list[Path]]:
    """Return files by the split that a word of their path below a folder names; all are "train" where none does.

    Raises `UserError` where some do and others do not.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        path = str(file.relative_to(root)) if file.is_relative_to(root) else file.name
        names = [split_word(re.findall(r"[^\W\d_]+", part)) for part in reversed(Path(path).parts)]
        found.setdefault(next((name for name in names if name), ""), []).append(file)
    if "" in found and len(found) > 1:
        named = next(file for split, files in found.items() if split for file in files)
        raise UserError(
            f"{named} says its split, and {found[''][0]} does not; put train, val or test into the name of each."
        )
    return found


def to_listing(found: Found, given: str, shown: Range | None) -> Listing:
    """Return what a format has found as a folder is listed. Raises `UserError` where there are no images."""
    splits = {name: rows for name, rows in found.splits.items() if rows.texts}
    if not splits:
        raise UserError(f"{given} holds no images; give data with some.")
    notes = list(found.notes)
    if "" in splits or len(splits) == 1:  # one split, by whatever name
        (own,) = splits
        notes += [f"its one split, {own}, is trained on"] if own not in ("", "train") else []
        splits = {"train": splits[own]}
    unused = {name: rows for name, rows in splits.items() if name not in SPLITS}
    notes += [f"{name} is not used: {count(len(rows.texts), 'image')}" for name, rows in unused.items()]
    splits = {name: rows for name, rows in splits.items() if name in SPLITS}
    if "train" not in splits:
        raise UserError(f"{given} has the splits {listing([*splits, *unused])} and no train; name one so.")
    unreadable, hashes = UnreadableImages(found.root, shown=shown, source=given), Hashes(found.root)
    unreadable.total = sum(len(rows.texts) for rows in splits.values())
    names, labels, empty = _classes(splits, found.names, given)
    held = "test" if "test" in splits else "val"
    if held in splits:
        notes.append(f"train is trained on, {held} is the test split")
    if held == "test" and "val" in splits:
        notes.append("val is the validation split, for kNN while a run goes on")
    if any(rows.table is not None for rows in splits.values()):
        notes.append(f"{len(names)} labels, of which an image may have several: kNN is {SEVERAL}")
    elif names:
        notes.append(f"{count(len(names), 'class', 'classes')}: {some(names)}")

    def split(name: str) -> Split | None:
        if name not in splits:
            return None
        rows = splits[name]
        images = FileImages(Paths(rows.texts), hashes, shown, packed=tuple(rows.packed))
        return Split(images, labels.get(name), unreadable=unreadable)

    train = split("train")
    assert train is not None
    lone = _lone(labels["train"], labels[held], names, held) if held in labels and labels["train"].ndim == 1 else {}
    val = split("val") if held == "test" else None
    return Listing(train, split(held), names, val, held, empty, lone, notes, found.name)


def _lone(train: torch.Tensor, other: torch.Tensor, names: Sequence[str], held: str) -> dict[str, str]:
    """Return the classes that one split alone has, and which."""
    own, others = ({*labels.tolist()} for labels in (train, other))
    return {name: "train" if i in own else held for i, name in enumerate(names) if (i in own) != (i in others)}


def _classes(
    splits: dict[str, Rows], given: Sequence[str], source: str
) -> tuple[list[str], dict[str, torch.Tensor], list[str]]:
    """Return the names of classes, the labels of each split as places in these, and classes without images.

    Raises `UserError`.
    """
    if any(rows.table is not None for rows in splits.values()):
        tables = {name: rows.table for name, rows in splits.items() if rows.table is not None}
        return [*given], {name: torch.from_numpy(table) for name, table in tables.items()}, []
    used = {label for rows in splits.values() for label in rows.labels if label is not None}
    numbers = {label for label in used if isinstance(label, int)}
    if not used - ({label for label in numbers if label < 0}):
        return [], {}, []
    if numbers and len(numbers) < len(used):
        raise UserError(f"{source} has classes by number and by name, as {min(numbers)}; give all of one kind.")
    if numbers and given:
        if max(numbers) >= len(given):
            raise UserError(
                f"{source} has the label {max(numbers)}, and names of {len(given)} classes; give a name each."
            )
        there = [*range(len(given))]
        empty = [name for i, name in enumerate(given) if i not in numbers]
        order: list[Any] = [i for i in there if i in numbers]
        names = [given[i] for i in order]
    else:
        order = sorted(number for number in numbers if number >= 0) if numbers else sorted(sorted(used), key=natural)
        names, empty = [str(label) for label in order], []
    place: dict[Label, int] = {label: i for i, label in enumerate(order)}
    labels = {
        name: torch.tensor([place.get(label, -1) for label in rows.labels or [None] * len(rows.texts)])
        for name, rows in splits.items()
    }
    return names, labels, empty


def common_root(texts: Iterable[str], home: Path) -> Path:
    """Return the folder below which paths lie: ``home`` where it is one, else the deepest that all of them have."""
    folders = {os.path.dirname(text) for text in texts}
    start = str(home) + os.sep
    if all(folder == str(home) or folder.startswith(start) for folder in folders):
        return home
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))


def in_turn(groups: dict[str, list[Path]]) -> Iterator[tuple[str, Path]]:
    """Yield each file with its split."""
    for split, files in groups.items():
        for file in files:
            yield split, file
