"""Embeddings in parquet files, by pyarrow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...tools.errors import UserError
from .rows import Array, Rows, check_once, some
from .tables import MARK, FeatureColumns, Labels, feature_columns, labels_in, roles_of, rows_of_columns


def read(path: Path, columns: Mapping[str, str]) -> Rows:
    """Return the rows of a .parquet, with a column of lists or a series of columns. Raises `UserError`."""
    arrow, parquet = _needed_for(path)
    where = str(path)
    try:
        with parquet.ParquetFile(path) as file:
            kinds = {field.name: field.type for field in file.schema_arrow}
            check_once(path, file.schema_arrow.names)
            scalars = [name for name, kind in kinds.items() if _is_number_type(arrow, kind)]
            asked = {r: n for r, n in columns.items() if r != "features" or n in kinds}
            roles = roles_of(asked, [*kinds], scalars, where)
            lists = [name for name, kind in kinds.items() if _is_list(arrow, kind) and name not in roles.values()]
            if len(lists) > 1 and "features" not in roles and "features" not in columns:
                raise UserError(
                    f"{where} has {some(lists)}, each of which may be the features; say which with --column "
                    f"features={lists[0]}."
                )
            if "features" in roles and not _is_list(arrow, kinds[roles["features"]]):
                roles.pop("features")
            if "features" not in roles and "features" not in columns and len(lists) == 1:
                own, note = lists[0], [f"features are {lists[0]}, its only column of lists of numbers"]
            else:
                own, note = roles.pop("features", None), []
            if own is None:
                free = [name for name in kinds if name not in roles.values() and not name.startswith(MARK)]
                usual = [name for name in free if name in scalars]
                others = {name: f"cells of the type {kinds[name]}" for name in free if name not in scalars}
                of = feature_columns(where, usual, columns.get("features"), others)
            else:
                of = FeatureColumns([own], note)
            features = _gathered(file, of.names, own is not None, where)
            wordy = [name for name in kinds if name in roles.values() or name.startswith(MARK)]
            said = {name: _plain(arrow, file.read([name]).column(0)).to_numpy() for name in wordy}
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{path} is no whole .parquet ({type(error).__name__}); save it anew.") from None
    return rows_of_columns(where, features, roles, said, of)


def count(path: Path) -> int:
    """Return the number of rows of a .parquet, of which nothing else is read. Raises `UserError`."""
    arrow, parquet = _needed_for(path)
    try:
        return int(parquet.read_metadata(path).num_rows)
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{path} is no whole .parquet ({type(error).__name__}); save it anew.") from None


def read_labels(path: Path, columns: Mapping[str, str]) -> Labels:
    """Return the labels of a .parquet, and the names of files beside them, if it has these. Raises `UserError`."""
    arrow, parquet = _needed_for(path)
    try:
        table = parquet.read_table(path)
    except Exception as error:  # arrow raises its own kinds
        raise UserError(f"{path} is no whole .parquet ({type(error).__name__}); save it anew.") from None
    check_once(path, table.column_names)
    found = {name: _plain(arrow, table.column(name)).to_numpy() for name in table.column_names}
    return labels_in(str(path), found, columns)


def needed(path: Path) -> tuple[Any, Any]:
    """Return pyarrow and its part for parquet. Raises `UserError` where it is not installed."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise UserError(f"{path} needs pyarrow; pip install 'sslzoo[parquet]'.") from None
    return arrow, parquet


def _needed_for(path: Path) -> tuple[Any, Any]:
    """Return what `needed` does, for a file to read. Raises `UserError` where it is not there, installed or not."""
    if not path.exists():
        raise UserError(f"There is no file {path}; give one that is there.")
    return needed(path)


def _plain(arrow: Any, column: Any) -> Any:
    """Return a column without a dictionary, whose missing cells numpy would take for its last value."""
    return column.cast(column.type.value_type) if arrow.types.is_dictionary(column.type) else column


def _is_list(arrow: Any, kind: Any) -> bool:
    some_list = arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind)
    return bool(some_list and _is_number_type(arrow, kind.value_type))


def _is_number_type(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_floating(kind) or arrow.types.is_integer(kind))


def _gathered(file: Any, names: Sequence[str], lists: bool, where: str) -> Array:
    """Return features [N, D] of a column of lists, or of columns, a group of rows at a time."""
    rows, start, made = file.metadata.num_rows, 0, np.empty((file.metadata.num_rows, 0), np.float32)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, [*names])
        part = _lists(table.column(0), where) if lists else _columns(table, names)
        if part.shape[1] and not made.shape[1]:
            made = np.empty((rows, part.shape[1]), part.dtype if not start else np.result_type(part, np.float32))
            if start:
                made[:start] = np.nan  # lists that are missing, all of them
        if not part.shape[1]:
            part = np.full((len(part), made.shape[1]), np.nan, np.float32)
        if part.shape[1] != made.shape[1]:
            raise UserError(f"{where} has lists of {made.shape[1]} and of {part.shape[1]} numbers; give all the same.")
        if part.dtype.kind == "f" and made.dtype.kind != "f":  # the first whole number that is missing, which is nan
            made = made.astype(np.float64)
        made[start : start + len(part)] = part
        start += len(part)
    return made


def _lists(column: Any, where: str) -> Array:
    """Return a column of lists of one length as [N, D]; a missing list is a row of nan. Raises `UserError`."""
    parts = []
    for chunk in column.chunks:
        lengths = {*chunk.value_lengths().drop_null().to_pylist()} if hasattr(chunk, "value_lengths") else set()
        width = chunk.type.list_size if hasattr(chunk.type, "list_size") else None
        if len(lengths) > 1:
            raise UserError(
                f"{where} has lists of {some([str(one) for one in sorted(lengths)], 4)} numbers; give all rows as many."
            )
        width = width or (lengths.pop() if lengths else 0)
        if not width:  # all of them are missing
            parts.append(np.empty((len(chunk), 0), np.float32))
            continue
        flat = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
        if chunk.null_count:
            whole = np.full((len(chunk), width), np.nan, flat.dtype if flat.dtype.kind == "f" else np.float64)
            whole[chunk.is_valid().to_numpy(zero_copy_only=False)] = flat
            flat = whole
        parts.append(flat)
    widths = {part.shape[1] for part in parts} - {0}
    if len(widths) > 1:
        raise UserError(f"{where} has lists of several lengths; give all rows as many numbers.")
    filled = [
        part if part.shape[1] else np.full((len(part), *widths), np.nan, np.float32) if widths else part
        for part in parts
    ]
    return np.concatenate(filled) if filled else np.empty((0, 0), np.float32)


def _columns(table: Any, names: Sequence[str]) -> Array:
    """Return columns of numbers as [N, D], of the type that holds them all."""
    kinds = [np.dtype(table.schema.field(name).type.to_pandas_dtype()) for name in names]
    kind = np.result_type(*kinds)
    if kind.kind in "iu" and any(table.column(name).null_count for name in names):
        kind = np.dtype(np.float64)
    made = np.empty((table.num_rows, len(names)), kind)
    for i, name in enumerate(names):
        made[:, i] = table.column(name).to_numpy()
    return made
