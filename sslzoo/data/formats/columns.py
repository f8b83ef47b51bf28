"""Which columns of an Arrow table are pictures and classes, as Hugging Face's features or their types say."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...tools.errors import UserError, did_you_mean, listing
from ..home import some
from ..packed.index import Index, plain
from .rows import Rows, as_label
from .spelling import Spelled

LABEL = ("label", "labels", "class", "category", "target")


@dataclass(frozen=True)
class Columns:
    """Holds the names of the columns of pictures and of classes, and the names of the classes.

    ``structured`` says that a picture is a group of bytes and path, ``has_path`` that it has the latter.
    """

    image: str
    structured: bool
    has_path: bool
    label: str | None = None
    names: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()  # other columns
    several: bool = False  # labels are lists

    @classmethod
    def of(cls, schema: Any, spelled: Spelled, features: Mapping[str, Any] | None = None) -> "Columns":
        """Return those of a schema; ``features`` are Hugging Face's, where the schema does not have them.

        Raises `UserError` where they do not say which columns are meant.
        """
        import pyarrow as arrow

        told = _features(schema) if features is None else features
        kinds = {one.name: one.type for one in schema}
        pictures = [name for name, kind in kinds.items() if _is_picture(arrow, kind, told.get(name))]
        image = _one(spelled, "image", kinds, pictures, "pictures")
        if image is None:
            raise UserError(f"{spelled.text} has no column of pictures, only {listing(kinds)}; give bytes of files.")
        kind = kinds[image]
        classes = [name for name in kinds if _class_names(told.get(name)) and name != image]
        usual = classes or [name for name in kinds if name.lower() in LABEL and name != image]
        label = _one(spelled, "label", kinds, usual, "classes")
        structured = arrow.types.is_struct(kind)
        parts = [one.name for one in kind] if structured else []
        if structured and "bytes" not in parts:
            raise UserError(f"{image} of {spelled.text} has no bytes, only {listing(parts)}; give bytes of files.")
        several = label is not None and (arrow.types.is_list(kinds[label]) or arrow.types.is_large_list(kinds[label]))
        names = tuple(_class_names(told.get(label)) if label is not None else ())
        if several and not names:
            raise UserError(f"{label} of {spelled.text} is lists whose numbers nobody names; give a class a row.")
        beside = tuple(name for name in kinds if name not in (image, label))
        return cls(image, structured, "path" in parts, label, names, beside, several)

    def row_names(self, paths: Sequence[str | None] | None, rows: int) -> list[str]:
        """Return a name for each row: its picture's path where all have one of their own, else its number."""
        if paths is not None and all(paths):
            found = [plain(str(path)) for path in paths]
            if len({*found}) == rows and all(found):
                return found
        width = len(str(max(rows - 1, 0)))
        return [f"{place:0{width}d}" for place in range(rows)]

    def contents(self, column: Any) -> Iterator[bytes]:
        """Yield the bytes of each picture of a column; none of a gap."""
        values = column.field("bytes") if self.structured else column
        for value in values:
            yield value.as_py() or b""


@dataclass(frozen=True)
class Table:
    """Holds a file's columns, the cells of its labels, and where its pictures lie."""

    where: str
    columns: Columns
    labels: list[Any] | None = field(repr=False)
    index: Index = field(repr=False)
    paths: Sequence[str | None] = field(default=(), repr=False)  # of pictures whose bytes are not in the file

    def rows(self) -> Rows:
        """Return its images with their labels. Raises `UserError`."""
        found = Rows(self.index.texts, packed=[self.index])
        for i in np.flatnonzero(self.index.spans[:, 1] == 0).tolist() if self.paths else ():
            file = os.path.join(os.path.dirname(self.where), self.paths[i] or "")
            if os.path.isfile(file):
                found.texts[i] = file
        if self.labels is not None and self.columns.several:
            table = np.zeros((len(self.labels), len(self.columns.names)), np.int8)
            for row, marks in zip(table, self.labels, strict=True):
                row[:] = -1 if marks is None else row
                row[marks or []] = 1
            found.table = table
        elif self.labels is not None:
            found.labels = [as_label(cell) for cell in self.labels]
        return found


def needed(what: str) -> Any:
    """Return pyarrow. Raises `UserError` where it is not installed."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError(f"{what} needs pyarrow; pip install 'sslzoo[parquet]'.") from None
    return pyarrow


def splits_of_tables(
    tables: Mapping[str, Sequence[Table]], spelled: Spelled
) -> tuple[dict[str, Rows], tuple[str, ...], list[str]]:
    """Return the rows of each split, the names of the classes, and what is said. Raises `UserError`."""
    every = [table for own in tables.values() for table in own]
    if not every:
        raise UserError(f"{spelled.text} holds no files; give data with some.")
    first = every[0]
    for other in every:
        if (other.columns.label, other.columns.names) != (first.columns.label, first.columns.names):
            raise UserError(
                f"{first.where} and {other.where} have other columns, or other names of classes; give one set."
            )
    splits: dict[str, Rows] = {}
    for split, own in tables.items():
        rows = splits.setdefault(split, Rows())
        made = [table.rows() for table in own]
        for one in made:
            rows.add(one)
        if first.columns.several:
            rows.table = np.concatenate([one.table for one in made if one.table is not None])
    size = sum(int(table.index.spans[:, 1].sum()) for table in every if table.index.sums is not None)
    notes = (
        [f"pictures are unpacked into the cache, where each can be read alone: {size / 1e6:,.0f} MB"] if size else []
    )
    columns = first.columns
    if columns.label is not None:
        others = f"; not used: {some(columns.beside)}" if columns.beside else ""
        notes.append(f"pictures are the column {columns.image}, classes {columns.label}{others}")
    elif columns.beside:
        notes.append(
            f"no column is called {' or '.join(LABEL[:3])}, only {some(columns.beside)}: no labels; "
            f"{spelled.hint('label')} says which it is"
        )
    return splits, columns.names, notes


def _one(spelled: Spelled, role: str, kinds: Mapping[str, Any], likely: Sequence[str], words: str) -> str | None:
    """Return the column of a role: the one that is asked for, else the only likely one."""
    asked = {"image": spelled.image, "label": spelled.label}[role]
    if asked is not None:
        if asked not in kinds:
            there = listing(kinds)
            raise UserError(f"{spelled.text} has no column {asked!r}{did_you_mean(asked, kinds)}; there are {there}.")
        return asked
    if len(likely) > 1:
        raise UserError(
            f"{spelled.text} has several columns of {words} ({listing(likely)}); say which it is: "
            f"{spelled.text}:{role}={likely[0]}."
        )
    return likely[0] if likely else None


def _features(schema: Any) -> dict[str, Any]:
    """Return Hugging Face's features of a schema; none where it has none."""
    with suppress(ValueError, KeyError, TypeError):
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return dict(found)
    return {}


def _class_names(feature: Any) -> list[str]:
    """Return the names of a feature of classes, or of lists of these."""
    if isinstance(feature, Mapping) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    elif isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, Mapping) or feature.get("_type") != "ClassLabel":
        return []
    return [str(name) for name in feature.get("names") or ()]


def _is_picture(arrow: Any, kind: Any, feature: Any) -> bool:
    """Return whether a column can hold pictures: it is said so, or its cells are bytes."""
    if isinstance(feature, Mapping) and feature.get("_type"):
        return bool(feature["_type"] == "Image")
    if arrow.types.is_struct(kind):
        return any(one.name == "bytes" and _is_bytes(arrow, one.type) for one in kind)
    return _is_bytes(arrow, kind)


def _is_bytes(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))
