"""Labels as people have them: a class a row, or a column of 0 and 1 for each label that a row may have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .bounds import whole_numbers
from .errors import UserError

SEVERAL = "right where the label with the most votes is one of the query's own; a shared label is a hit"

NOBODY = "no image of the"  # a note on splits without labels begins so
NOT_BINARY = "labels per image that are not all 0 or 1"


def read_labels(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return classes as int64 [N], negative for none; or labels [N, C] as `columns` has them. Raises `UserError`."""
    x = np.asarray(array)
    if several(x):
        found = columns(x)
        if found is None:
            raise UserError(f"{name} has {x.shape[1]} columns, so they have to be 0 or 1; or number the classes.")
        return found
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), -1, x)  # a gap in a table
    return whole_numbers(name, x)


def columns(table: npt.NDArray[Any]) -> npt.NDArray[np.int8] | None:
    """Return labels [N, C] as 0 and 1, and rows of -1 where a cell is negative or NaN; None where other cells are."""
    if table.dtype.kind not in "fiub":
        return None
    unknown = np.isnan(table) | (table < 0) if table.dtype.kind == "f" else table < 0
    if not (unknown | (table == 0) | (table == 1)).all():
        return None
    found: npt.NDArray[np.int8] = (table == 1).astype(np.int8)
    found[unknown.any(axis=1)] = -1
    return found


def known(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which rows [N] have known labels: only these are a bank's."""
    return np.asarray((labels >= 0).all(axis=1) if labels.ndim == 2 else labels >= 0)


def asking(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return which rows [N] can be queries: those with a label. Of several, a row without any has none to share."""
    return known(labels) & (labels > 0).any(axis=1) if labels.ndim == 2 else known(labels)


def foreign(bank: npt.NDArray[Any], queries: npt.NDArray[Any]) -> str | None:
    """Return a sentence where queries have no class or label that the bank has too; None elsewhere."""
    found = ~np.isin(queries, bank) if bank.ndim == 1 else ~(queries > 0)[:, (bank > 0).any(axis=0)].any(axis=1)
    if not found.any():
        return None
    return (
        f"{int(found.sum()):,} of {len(queries):,} queries are of classes that the bank has no row of, and none of "
        "these can be right; give both splits the same classes."
    )


def several(labels: npt.ArrayLike) -> bool:
    """Return whether labels are columns, of which a row may have several."""
    shape = np.shape(labels)
    return len(shape) == 2 and shape[1] > 1


def numbers(label: Any) -> list[int]:
    """Return the numbers of a row's labels: its class, or the columns that are 1; none for a negative one."""
    marks = np.asarray(label)
    return np.flatnonzero(marks > 0).tolist() if marks.ndim else [int(marks)] * bool(marks >= 0)


def named(number: int, names: Sequence[str]) -> str:
    """Return the name of a class, or its number where it has none."""
    return names[number] if 0 <= number < len(names) else str(number)


def caption(label: Any, names: Sequence[str]) -> str:
    """Return a row's labels in words: a name, "class 3" where it has none, or the names of several."""
    if np.ndim(label) == 0:
        if label < 0:
            return "no label"
        name = named(int(label), names)
        return f"class {name}" if name == str(int(label)) else name
    return ", ".join(named(i, names) for i in numbers(label)) or "no label"


def read_names(source: str, arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of classes or of columns of labels, which arrays have as texts under "classes", if they do.

    Raises `UserError` where the training and the test split have a label beyond the last name.
    """
    names = np.asarray(arrays.get("classes", ()))
    if names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8", "replace")
    if names.dtype.kind not in "UT":  # something else of that name
        return ()
    given = [np.asarray(arrays[key]) for key in ("train_labels", "test_labels", "val_labels") if key in arrays]
    given = [x for x in given if x.dtype.kind in "fiub"]
    sizes = [x.shape[1] if several(x) else int(x[np.isfinite(x)].max(initial=-1)) + 1 for x in given]
    needed = max(sizes, default=0)
    if names.ndim != 1 or len(names) < needed:
        raise UserError(
            f"{source} has labels up to {needed - 1}, and classes of shape {list(names.shape)}; give a list of names, "
            "from label 0 on, or leave it out."
        )
    given_names = [str(name) for name in names.tolist()]
    return tuple(name if name.strip() else str(i) for i, name in enumerate(given_names))
