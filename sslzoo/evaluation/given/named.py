"""Files of arrays with names: .npy, .npz, .pt and .safetensors."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ...data.formats.arrays import read_npy, read_npz
from ...tools.errors import UserError
from .rows import Array, Rows, chosen, labels_of, some, texts

Arrays = dict[str, Array]


def npy(path: Path) -> Arrays:
    """Return the array of an .npy, memory-mapped."""
    return {"features": read_npy(path)}


def npz(path: Path) -> Arrays:
    """Return the arrays of an .npz. Raises `UserError`."""
    return read_npz(path, "give a file that is there")


def pt(path: Path) -> Arrays:
    """Return the tensors of a file of torch's, and lists of texts or numbers in it; no code of it runs.

    Raises `UserError`.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except Exception as error:  # torch raises many kinds for a file that holds more than tensors
        kind = type(error).__name__
        raise UserError(f"{path} is no file of tensors alone ({kind}); save it with torch.save of tensors.") from None
    if isinstance(found, torch.Tensor):
        return {"features": _plain(found)}
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}; it has to be a tensor, or a dict of tensors.")
    return _arrays(found)


def safetensors(path: Path) -> Arrays:
    """Return the tensors of a .safetensors. Raises `UserError`."""
    try:
        return _arrays(load_file(path))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no .safetensors ({type(error).__name__}); save it anew.") from None


def _arrays(found: Mapping[Any, Any]) -> Arrays:
    arrays = {}
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            arrays[str(name)] = _plain(value)
        elif isinstance(value, list | tuple) and value and all(isinstance(one, str | int) for one in value):
            arrays[str(name)] = np.asarray(value)
    return arrays


def _plain(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array of numpy, which has no bfloat16: float32 holds its numbers."""
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    found: Array = (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    return found


def rows_of(path: Path, arrays: Arrays, columns: Mapping[str, str]) -> Rows:
    """Return the rows of named arrays. Raises `UserError` where their names and shapes do not say which is what."""
    roles = chosen(columns, [*arrays], str(path))
    notes = []
    if "features" not in roles:
        tables = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiub"]
        if len(tables) != 1:
            shapes = [f"{name} {list(array.shape)}" for name, array in arrays.items()]
            example = tables[0] if tables else "NAME"
            raise UserError(
                f"{path} has {some(shapes)}, and no name says which are the features; say so with --column "
                f"features={example}."
            )
        roles["features"] = tables[0]
        notes.append(f"features are {tables[0]}, its only array [rows, columns] of numbers")
    features = arrays[roles["features"]]
    if "labels" not in roles:
        lists = [
            name for name, array in arrays.items()
            if name not in roles.values() and array.shape in ((len(features),), (len(features), 1))
        ]  # fmt: skip
        if len(lists) == 1:
            roles["labels"] = lists[0]
            notes.append(f"labels are {lists[0]}, its only other array of a number a row")
    where = str(path)
    labels = labels_of(where, arrays[roles["labels"]]) if "labels" in roles else None
    files, splits = (texts(where, arrays[roles[r]], r) if r in roles else None for r in ("files", "splits"))
    classes = tuple(texts(where, arrays[roles["classes"]], "classes").tolist()) if "classes" in roles else ()
    return Rows(features, labels, files, splits, classes, tuple(notes))


def holds_weights(path: Path) -> bool:
    """Return whether a file of tensors holds a network's weights: dots in some names, or more than two axes.

    Of a .safetensors its head alone is read.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                axes = {name: len(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        else:
            axes = {name: array.ndim for name, array in pt(path).items()}
    except (UserError, SafetensorError, OSError, ValueError):
        return False
    return any("." in name or number > 2 for name, number in axes.items())
