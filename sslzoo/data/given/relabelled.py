"""Parts of a data set with the labels of tables: the one that a person names, or those beside the images."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...tools.errors import UserError
from ..home import natural
from .labels import LABEL, Labels, attach, file_column, plain, roles
from .names import Names
from .options import DataOptions, parted
from .part import Part
from .sheet import Sheet, beside, read_sheet, unnamed

METADATA, FILE_NAME = "metadata.csv", "file_name"  # as Hugging Face's imagefolder has them


@dataclass(frozen=True)
class Table:
    """A table of labels: ``asked`` are its columns that a person named; one ``beside`` the images names files there."""

    sheet: Sheet
    asked: tuple[str, ...] = ()
    beside: bool = False


def described(given: DataOptions, folders: Sequence[str]) -> tuple[list[Table], list[str]]:
    """Return the tables that say what the labels are, none where folders do, and notes. Raises `UserError`."""
    if given.labels is not None:
        path, asked = parted(given.labels)
        return [Table(read_sheet(path), asked)], []
    found: list[Table] = []
    notes: list[str] = []
    for folder in folders:
        path = Path(folder, METADATA)
        if os.path.isfile(path):
            sheet = read_sheet(path)
            rest = [name for name in sheet.head if name != FILE_NAME and not unnamed(name)]
            if FILE_NAME not in sheet.head:
                notes.append(f"{path} is not used: it has no column {FILE_NAME}")
            elif given.class_depth is not None:
                notes.append(f"{path} is not used: --class-depth says that folders are classes")
            elif any(plain(name) in LABEL for name in rest):
                found.append(Table(sheet, beside=True))
            elif rest:
                notes.append(f"{path} is not used: none of its columns is named label; say --labels {path}:{rest[0]}")
    return found, notes


def relabelled(
    parts: Mapping[str, Part], tables: Sequence[Table], bases: Sequence[str]
) -> tuple[dict[str, Part], list[str]]:
    """Return parts with the labels of tables, parted by their column of splits where there is one part; and notes.

    ``bases`` are folders below which files are named. Raises `UserError`.
    """
    texts = [text for part in parts.values() for text in part.texts]
    notes: list[str] = []
    found = _joined([_of_table(table, texts, bases) for table in tables])
    notes += [f"labels are those of {' and '.join(str(table.sheet.path) for table in tables)}", *found.notes]
    start, made = 0, dict[str, Part]()
    for split, part in parts.items():
        labels = found.labels[start : start + len(part)]
        made[split] = replace(part, labels=labels, names=found.names)
        start += len(part)
    if found.splits is not None and len(parts) == 1:
        made, said = _by_column(made["train"], found.splits)
        notes += said
    elif found.splits is not None:
        said_split = [split for split, part in parts.items() for _ in part.texts]
        differ = sum(bool(word) and word != split for word, split in zip(found.splits, said_split, strict=True))
        notes += [f"its column of splits differs from the folders for {differ} images: the folders count"] * bool(
            differ
        )
    return made, notes


def _of_table(table: Table, texts: Sequence[str], bases: Sequence[str]) -> Labels:
    """Return the labels of images as a table has them."""
    sheet, here = table.sheet, beside(table.sheet.path)
    names = Names(texts, [here] if table.beside else [here, *bases])
    if table.beside:
        what = roles(sheet, FILE_NAME, [])
    else:
        sheet, file = file_column(sheet, names.find)
        what = roles(sheet, file, table.asked)
    return attach(sheet, what, names.find, len(texts))


def _joined(found: Sequence[Labels]) -> Labels:
    """Return the labels of several tables, each of which has rows for other images."""
    first, *more = found
    for other in more:
        if first.labels.ndim == 2 or other.labels.ndim == 2:
            raise UserError(f"Several {METADATA} have several labels an image; give one table with --labels.")
        names = sorted({*first.names, *other.names}, key=natural)
        one, two = (Part((), part.labels, part.names).labelled_as(names).labels for part in (first, other))
        assert one is not None
        assert two is not None
        # an image without a row in one of them has it in another
        first = replace(first, labels=np.where(one < 0, two, one), names=names, splits=None, notes=())
    return first


def _by_column(part: Part, splits: Sequence[str]) -> tuple[dict[str, Part], list[str]]:
    """Return the parts of one by words for splits; what has no word is trained on."""
    words = np.array([word or "train" for word in splits])
    made = {split: part.take(np.flatnonzero(words == split)) for split in ("train", "val", "test")}
    counts = ", ".join(f"{len(one)} {split}" for split, one in made.items() if len(one))
    if not len(made["train"]):
        raise UserError(f"No image is of the training split by the column of splits ({counts}); give some.")
    found = {split: one for split, one in made.items() if len(one)}
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    return found, [f"splits are those of its column: {counts}"] if len(found) > 1 else []
