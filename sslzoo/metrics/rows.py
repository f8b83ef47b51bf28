"""Rows of numbers as people have them, and as they are searched: float32, of length 1."""

from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch

from ..tools.errors import UserError
from .precise import lengths
from .task import Floats

CHUNK = 256  # rows at a time


def plain(name: str, array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return an array of numpy of what holds numbers: lists, numpy's and torch's arrays of any layout, scipy's sparse.

    Raises `UserError` for masked entries, for complex numbers, and for what has no one shape or no numbers.
    """
    given: Any = array
    if isinstance(given, torch.Tensor):
        if given.is_meta:
            raise UserError(f"{name} is on the meta device, which has no numbers; give those of a real one.")
        given = given.detach().cpu()
        given = given.to_dense() if given.layout != torch.strided else given
        given = given.dequantize() if given.is_quantized else given
        given = given.resolve_conj().resolve_neg()
        given = (given.float() if given.is_floating_point() and given.element_size() < 4 else given).numpy()
    elif hasattr(given, "toarray"):  # of scipy
        given = given.toarray()
    if np.ma.isMaskedArray(given):
        if np.ma.getmaskarray(given).any():
            raise UserError(f"{name} has masked entries, which have no value; fill them in, or leave their rows out.")
        given = given.data
    if isinstance(given, list | tuple) and any(isinstance(row, torch.Tensor) for row in given):
        given = [plain(name, row) for row in given]
    try:
        x = np.asarray(given)
    except (TypeError, ValueError):  # lists of several lengths
        raise UserError(f"{name} has rows of several lengths; it has to be [rows, columns].") from None
    if x.dtype.kind == "c":
        raise UserError(f"{name} has complex numbers ({x.dtype}); give real ones.")
    return x


def matrix(name: str, rows: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return numbers [N, D] with all their digits. Raises `UserError` for what is no matrix of numbers."""
    x = plain(name, rows)
    if x.dtype.kind == "O":
        with suppress(TypeError, ValueError):
            x = x.astype(np.float64)
    if x.dtype.kind not in "fiub":
        raise UserError(f"{name} are no numbers ({x.dtype}); give [rows, columns] of numbers.")
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"{name} has shape {list(x.shape)}; it has to be [rows, columns], neither empty.")
    return x


def unit_rows(name: str, rows: npt.ArrayLike) -> Floats:
    """Return float32 rows of length 1; zero rows stay. Raises `UserError` for what is no matrix of finite numbers."""
    x = matrix(name, rows)
    narrow, norms = allocate(x.shape), np.empty(len(x))
    for i in range(0, len(x), CHUNK):  # what fits the cache, in float64
        part = x[i : i + CHUNK].astype(np.float64)
        norms[i : i + CHUNK] = norm = lengths(part)
        with np.errstate(invalid="ignore"):
            np.divide(part, np.where(norm == 0, 1, norm)[:, None], out=narrow[i : i + CHUNK], casting="same_kind")
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise UserError(f"{name} has {len(bad)} rows that are not finite, the first at {bad[0]}; check the encoder.")
    return narrow


def allocate(shape: tuple[int, ...], kind: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return an array to fill: in memory, or in a temporary file where it would take more than half of what is free."""
    if np.dtype(kind).itemsize * np.prod(shape, dtype=np.int64) > psutil.virtual_memory().available // 2:
        with TemporaryFile() as file:  # the mapping outlives it
            return np.memmap(file, kind, "w+", shape=shape)
    return np.empty(shape, kind)
