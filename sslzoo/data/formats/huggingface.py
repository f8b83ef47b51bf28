"""Hugging Face's data sets: folders that `save_to_disk` wrote, and those of a name, ``hf:NAME`` or ``hf:NAME:CONFIG``.

Both are Arrow files, in which pictures lie as they were encoded; they are read from there.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...tools import files
from ...tools.errors import UserError, in_a_line
from ..decoded.ranges import Range
from ..given.places import Listing
from ..layout import SPLITS
from ..packed import arrow
from ..packed.unpacked import Images, unpacked
from .columns import Columns, Table, needed, splits_of_tables
from .rows import Found, to_listing
from .spelling import COLUMNS, Spelled

SCHEME = "hf:"
MOST = 100_000_000  # bytes of what describes a data set
CHECK = "check its name and the network, or give a folder of save_to_disk"


def listed(spelled: Spelled, shown: Range | None) -> Listing:
    """Return the images of a folder that `save_to_disk` wrote, or of a data set by its name. Raises `UserError`."""
    if spelled.text.startswith(SCHEME) and not os.path.exists(spelled.text):
        cut = COLUMNS.match(spelled.given)
        pairs = dict(part.split("=", 1) for part in cut[2].split(",")) if cut else {}
        spelled = Spelled(spelled.given, cut[1] if cut else spelled.given, pairs.get("image"), pairs.get("label"))
        name, parts = spelled.text.removeprefix(SCHEME), _by_name(spelled.text)
    else:
        folder = Path(os.path.abspath(spelled.text))
        name, parts = folder.name, _saved(folder)
    tables = {split: [_table(path, spelled) for path in paths] for split, paths in parts.items()}
    splits, names, notes = splits_of_tables({_split(split): own for split, own in tables.items()}, spelled)
    root = Path(os.path.commonpath([path.parent for paths in parts.values() for path in paths]))
    return to_listing(Found(name, root, splits, names, notes), spelled.given, shown)


def _split(name: str) -> str:
    """Return what a split is to us: "train", "val" or "test"; another one is what it is called."""
    return next((split for split, words in SPLITS.items() if name.lower() in words), name)


def _saved(folder: Path) -> dict[str, list[Path]]:
    """Return the Arrow files of each split of a folder. Raises `UserError`."""
    if (folder / "dataset_dict.json").is_file():
        return {split: _files(folder / split) for split in _json(folder / "dataset_dict.json", "splits")}
    return {"train": _files(folder)}


def _files(folder: Path) -> list[Path]:
    """Return the Arrow files of one split, in their order."""
    return [folder / one["filename"] for one in _json(folder / "state.json", "_data_files")]


def _json(path: Path, key: str) -> Any:
    try:
        return json.loads(files.read_regular(path, MOST))[key]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not what save_to_disk writes; save the data set anew.") from None


def _by_name(text: str) -> dict[str, list[Path]]:
    """Return the Arrow files of each split of a data set that `datasets` knows, which it may download."""
    try:
        import datasets
    except ModuleNotFoundError:
        raise UserError(f"{text} needs datasets; pip install 'sslzoo[hf]'.") from None
    name, _, config = text.removeprefix(SCHEME).partition(":")
    try:
        found = datasets.load_dataset(name, config or None)
    except Exception as error:  # it raises kinds of its own, of several libraries
        raise UserError(f"{text} could not be loaded ({in_a_line(error)}); {CHECK}.") from None
    splits: Mapping[str, Any] = found if isinstance(found, Mapping) else {"train": found}
    made = {split: [Path(one["filename"]) for one in own.cache_files] for split, own in splits.items()}
    if not all(made.values()):
        raise UserError(
            f"{text} has no Arrow files in the cache of datasets; save it with save_to_disk, and give that."
        )
    return made


def _table(path: Path, spelled: Spelled) -> Table:
    """Return what an Arrow file holds. Raises `UserError`."""
    library = needed(spelled.text)
    columns: Columns | None = None
    labels: list[Any] = []
    paths: list[Any] = []
    rows = 0
    try:
        for batch, _ in arrow.batches(str(path)):
            columns = columns or Columns.of(batch.schema, spelled)
            rows += len(batch)
            if columns.label is not None:
                labels += batch.column(columns.label).to_pylist()
            if columns.has_path:
                paths += batch.column(columns.image).field("path").to_pylist()
        if columns is None:
            raise UserError(f"{path} has no rows; give a data set with some.")
        names = columns.row_names(paths if columns.has_path else None, rows)
        column = partial(_cells, columns)
        index = arrow.indexed(str(path), names, column)
        if index is None:
            index = unpacked(str(path), columns.image, partial(_images, path, columns, names))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give a data set that is whole.") from None
    except (OSError, library.ArrowException) as error:
        raise UserError(f"{path} is no whole Arrow file ({type(error).__name__}); save the data set anew.") from None
    return Table(str(path), columns, labels if columns.label is not None else None, index, paths)


def _cells(columns: Columns, batch: Any) -> Any:
    found = batch.column(columns.image)
    return found.field("bytes") if columns.structured else found


def _images(path: Path, columns: Columns, names: list[str]) -> Images:
    """Yield the name and the bytes of each row's picture."""
    named = iter(names)
    for batch, _ in arrow.batches(str(path)):
        for content in columns.contents(batch.column(columns.image)):
            yield next(named), content
