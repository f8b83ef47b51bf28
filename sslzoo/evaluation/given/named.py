"""Files of arrays with names: .npy, .npz, .pt and .safetensors."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ...data.formats.arrays import read_npy, read_npz
from ...exchange import files
from ...tools.errors import UserError
from .rows import ROLES, Array, Rows, chosen, labels_of, some, texts

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
        return {"features": _plain(found, path)}
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}; it has to be a tensor, or a dict of tensors.")
    return _arrays(found, path)


def safetensors(path: Path) -> Arrays:
    """Return the tensors of a .safetensors. Raises `UserError`."""
    try:
        return _arrays(load_file(path), path)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is no .safetensors ({type(error).__name__}); save it anew.") from None


def _arrays(found: Mapping[Any, Any], path: Path) -> Arrays:
    """Return the tensors of a dict, and its lists of vectors, texts or numbers."""
    arrays = {}
    for name, value in found.items():
        if isinstance(value, torch.Tensor):
            arrays[str(name)] = _plain(value, path)
        elif isinstance(value, list | tuple) and value and all(isinstance(one, str | int) for one in value):
            arrays[str(name)] = np.asarray(value)
        elif isinstance(value, list | tuple) and len({getattr(one, "shape", None) for one in value} - {None}) == 1:
            arrays[str(name)] = np.stack([_plain(one, path) for one in value])
    return arrays


def _are_rows(shapes: Mapping[str, Sequence[int]]) -> bool:
    """Return whether arrays of these shapes are a vector for each of many names, as of files."""
    usual = {name for names in ROLES.values() for name in names}
    alike = len({(*shape,) for shape in shapes.values()}) == 1
    vectors = all(len(shape) == 1 and shape[0] > 1 for shape in shapes.values())
    return len(shapes) > 1 and alike and vectors and usual.isdisjoint(name.lower() for name in shapes)


def _plain(tensor: torch.Tensor, path: Path) -> Array:
    """Return a tensor as an array of numpy, which knows fewer kinds: float32 holds the numbers of the narrow ones.

    Raises `UserError` for a tensor without plain numbers.
    """
    dense = tensor.detach()
    if dense.is_meta or dense.is_quantized:
        raise UserError(
            f"{path} has a tensor without plain numbers ({dense.dtype}, {dense.device}); save it as float32."
        )
    if dense.layout != torch.strided:
        dense = dense.to_dense()
    if dense.is_floating_point() and dense.dtype not in (torch.float16, torch.float32, torch.float64):
        dense = dense.float()
    found: Array = dense.resolve_conj().numpy()
    return found


def rows_of(path: Path, arrays: Arrays, columns: Mapping[str, str]) -> Rows:
    """Return the rows of named arrays; a vector for each of many names is a row, whose file the name is.

    Raises `UserError` where their names and shapes do not say which is what.
    """
    unordered = _are_rows({name: array.shape for name, array in arrays.items()})
    if unordered:
        arrays = {"features": np.stack([*arrays.values()]), "files": np.array([*arrays])}
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
    features = _pooled(path, arrays[roles["features"]])
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
    return Rows(features, labels, files, splits, classes, tuple(notes), unordered=unordered)


def _pooled(path: Path, features: Array) -> Array:
    """Return features without axes of length 1 behind [N, D]. Raises `UserError` for maps, which nobody has pooled."""
    if features.ndim > 2 and {*features.shape[2:]} != {1}:
        raise UserError(f"{path} has features {list(features.shape)}, a map of each; pool them to [rows, columns].")
    return features.reshape(features.shape[:2]) if features.ndim > 2 else features


def holds_weights(path: Path) -> bool:
    """Return whether a file of tensors holds a network's weights: dots in some names, or more than two axes.

    Features without a pool have these, too, and are known by their name. Of a .safetensors its head alone is read.
    What lies in tables in tables has dots in its names.
    """
    shapes: Mapping[str, Sequence[int]]
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        else:
            shapes = {name: tensor.shape for name, tensor in files.read(path).tensors.items()}
    except (files.Unreadable, SafetensorError):
        return True  # of which whoever reads weights has the sentence
    except (UserError, OSError, ValueError):
        return False
    known = ROLES["features"]
    named = any("." in name or (len(shape) > 2 and name.lower() not in known) for name, shape in shapes.items())
    return named and not _are_rows(shapes)
