"""Parquet files with a column of images, as Hugging Face has them: bytes and a path in each row."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...tools.errors import UserError
from ..decoded.ranges import Range
from ..given.places import Listing
from ..packed.unpacked import Images, unpacked
from .columns import Columns, Table, needed, splits_of_tables
from .rows import Found, split_files, to_listing
from .spelling import Spelled

ROWS = 64  # read at a time


def listed(spelled: Spelled, shown: Range | None) -> Listing:
    """Return the images of a .parquet, of a pattern of several, or of a folder of them. Raises `UserError`."""
    files = [Path(os.path.abspath(file)) for file in spelled.files()]
    if len(files) == 1 and files[0].is_dir():
        files = [file for file in sorted(files[0].rglob("*.parquet")) if not file.name.startswith(".")]
    root = Path(os.path.commonpath([file.parent for file in files]))
    tables = {split: [_table(file, spelled) for file in own] for split, own in split_files(files, root).items()}
    splits, names, notes = splits_of_tables(tables, spelled)
    name = files[0].stem if len(files) == 1 else Path(spelled.text).name if Path(spelled.text).is_dir() else root.name
    return to_listing(Found(name, root, splits, names, notes), spelled.given, shown)


def _table(path: Path, spelled: Spelled) -> Table:
    """Return what a file holds. Raises `UserError`."""
    arrow = needed(spelled.text)
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = Columns.of(file.schema_arrow, spelled)
            wanted = [name for name in (columns.label,) if name is not None]
            labels = file.read(wanted).column(0).to_pylist() if wanted else None
            where = file.read([f"{columns.image}.path"]).column(0) if columns.has_path else None
            paths = None if where is None else [row and row.get("path") for row in where.to_pylist()]
            rows = file.metadata.num_rows
        index = unpacked(str(path), columns.image, partial(_images, path, columns, paths, rows))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{path} is no whole .parquet ({type(error).__name__}); save it anew.") from None
    return Table(str(path), columns, labels, index, paths or ())


def _images(path: Path, columns: Columns, paths: list[Any] | None, rows: int) -> Images:
    """Yield the name and the bytes of each row's image, few rows in memory at a time."""
    from pyarrow import parquet

    names = iter(columns.row_names(paths, rows))
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=[columns.image]):
            yield from zip(_take(names, len(batch)), columns.contents(batch.column(0)), strict=True)


def _take(names: Iterator[str], number: int) -> Iterator[str]:
    for _ in range(number):
        yield next(names)
