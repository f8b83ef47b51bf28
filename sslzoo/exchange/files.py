"""Weights in files, whoever wrote them: every tensor of one by its dotted name; no code of a file runs."""

import argparse
import json
import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..tools.errors import UserError, kind_and_words, listing, no_memory

TORCH = (".pt", ".pth", ".ckpt", ".bin", ".tar")  # as torch.save writes; .pth.tar is no archive
SUFFIXES = (*TORCH, ".safetensors")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")  # of shards, which Hugging Face writes
WHOLE = ("model.safetensors", "pytorch_model.bin")
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
MOST_INDEX = 1 << 26  # bytes of an index or a config
DEEPEST = 8  # tables in tables
MOST_KINDS = 64  # of objects beside the tensors

# What stands beside weights in public files, besides numbers and texts. Objects and functions' names are read as empty
# tables, so that nothing of theirs runs; a file that calls anything but these modules of settings is refused.
SETTINGS = (
    "argparse", "collections", "omegaconf", "lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities",
    "pathlib", "types.SimpleNamespace", "typing", "enum", "datetime", "easydict", "addict", "yacs", "mmengine", "mmcv",
    "munch", "ml_collections", "fvcore", "torch.torch_version", "torch.optim", "builtins.set", "builtins.frozenset",
    "builtins.list", "builtins.dict", "builtins.slice", "builtins.range", "builtins.complex", "builtins.int",
)  # fmt: skip
REFUSED = re.compile(r"(?:GLOBAL|Unsupported class|class) ([\w.<>]+)")  # torch names built-in ones without a module


class Unreadable(UserError):
    """A file of weights that cannot be read, or whose reading would run code."""


class Called(type):
    """Is a class that notes its calls, which are what a pickle would run; it makes objects without calling anything."""

    calls: set[str]
    name: str

    def __call__(cls, *given: Any, **named: Any) -> Any:
        cls.calls.add(cls.name)
        return super().__call__(*given, **named)


class Bag(metaclass=Called):
    """Takes the place of a class or a function: what it makes is an empty table, and nothing runs.

    It is torch's only kind of table that takes both items and attributes while a file is read.
    """

    def __new__(cls, *given: Any, **named: Any) -> Any:
        """Return the table."""
        return OrderedDict()


@dataclass(frozen=True)
class Contents:
    """Holds what is in a file: its tensors by dotted names, as in "state_dict.module.fc.weight", and some words of it.

    ``words`` are texts at the top, as "arch" of "resnet50", ``config`` is the table of a config.json beside it, and
    ``processor`` that of a preprocessor_config.json.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    words: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)


def is_weights_file(path: Path) -> bool:
    """Return whether a path's suffix, or what a folder holds, is that of weights."""
    if os.path.isdir(path):
        return index_of(path) is not None or (whole(path) is not None and os.path.isfile(path / CONFIG))
    return path.suffix in SUFFIXES


def index_of(folder: Path) -> Path | None:
    """Return a folder's index of shards; None where it has none."""
    return next((folder / name for name in INDEXES if os.path.isfile(folder / name)), None)


def whole(folder: Path) -> Path | None:
    """Return the one file of weights of a folder as Hugging Face writes it; None where it has none."""
    return next((folder / name for name in WHOLE if os.path.isfile(folder / name)), None)


def read(path: Path) -> Contents:
    """Return what a file of weights holds, or a folder of them. Raises `UserError`."""
    if os.path.isdir(path):
        return _folder(path)
    if path.name in WHOLE and os.path.isfile(path) and os.path.isfile(path.parent / CONFIG):
        return _folder(path.parent)
    return _file(path)


def _file(path: Path) -> Contents:
    if not os.path.isfile(path):
        raise UserError(f"There are no weights at {path}; give a run that has ended an epoch, or a file.")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no file of weights; they come in {listing(SUFFIXES)}.")
    if path.suffix == ".safetensors":
        return Contents(path, _safetensors(path))
    found = _torch(path)
    if isinstance(found, Tensor) or not isinstance(found, Mapping):
        kind = type(found).__name__
        raise UserError(f"{path} holds no table of weights (a value of {kind}); save the network's state_dict().")
    words = {str(key): value for key, value in found.items() if isinstance(value, str)}
    return Contents(path, dict(_tensors(found, "")), words)


def _folder(path: Path) -> Contents:
    """Return what a folder of weights holds: one file, or shards that an index lists."""
    config, processor = (_json(path / name) if os.path.isfile(path / name) else {} for name in (CONFIG, PROCESSOR))
    index = index_of(path)
    if index is None:
        one = whole(path)
        if one is None:
            raise UserError(f"{path} has neither {listing(WHOLE)}, nor an index of shards; give a file of weights.")
        return Contents(path, _file(one).tensors, config=config, processor=processor)
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise UserError(f"{index} has no weight_map of names and files; download the folder again.")
    tensors: dict[str, Tensor] = {}
    for name in sorted({*places.values()}):
        if name != os.path.basename(name) or Path(name).suffix not in SUFFIXES:
            raise UserError(f"{index} names {name!r:.80}, which is no file of weights beside it; download it again.")
        if not os.path.isfile(path / name):
            raise UserError(f"{path} lacks {name}, which its index names; download the folder again.")
        tensors |= _file(path / name).tensors
    if missing := [name for name in places if name not in tensors]:
        raise UserError(f"{path} lacks {missing[0]}, which its index names; download the folder again.")
    return Contents(path, tensors, config=config, processor=processor)


def _json(path: Path) -> dict[str, Any]:
    """Return the table of a JSON file. Raises `UserError`."""
    try:
        if path.stat().st_size > MOST_INDEX:
            raise ValueError("too long")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({type(error).__name__}); download the folder again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no table; download the folder again.")
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
        raise _unreadable(path, error) from None


def _torch(path: Path) -> Any:
    """Return what torch.save wrote, other objects than tensors as `Bag`. Raises `UserError`, and runs nothing."""
    known: list[Any] = [argparse.Namespace, np.dtype, *NUMPY]
    calls: set[str] = set()
    for _ in range(MOST_KINDS):
        calls.clear()
        try:
            with torch.serialization.safe_globals(known):
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError) as error:
            raise _unreadable(path, error) from None
        except Exception as error:  # pickle.UnpicklingError and kin
            refused = REFUSED.search(str(error))
            name = None if refused is None else refused[1] if "." in refused[1] else f"builtins.{refused[1]}"
            if name is None:
                raise Unreadable(
                    f"{path} is no plain state dict ({type(error).__name__}); save it with safetensors."
                ) from None
            if name in {one[1] for one in known if isinstance(one, tuple)}:  # of a module that torch blocks
                raise _running(path, name) from None
            known.append((Called("Bag", (Bag,), {"calls": calls, "name": name}), name))
            continue
        if runs := sorted(name for name in calls if not _is_setting(name)):
            raise _running(path, runs[0])
        return found
    raise UserError(f"{path} holds too many kinds of objects beside its weights; save it with safetensors.")


def _running(path: Path, name: str) -> Unreadable:
    """Return the sentence for a file that would call something when it is read by others."""
    return Unreadable(
        f"{path} holds more than weights ({name}), which would run code, and is no plain state dict; save it with "
        "safetensors."
    )


def _is_setting(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in SETTINGS)


def _unreadable(path: Path, error: BaseException) -> Unreadable:
    """Return the sentence for a file that cannot be read."""
    if no_memory(error) and os.path.getsize(path) > 1 << 30:
        return Unreadable(f"Memory does not hold {path}; end what else uses it.")
    return Unreadable(
        f"{path} cannot be read as weights ({kind_and_words(error, 60)}); give a whole {listing(SUFFIXES)} file."
    )


def _tensors(table: Mapping[Any, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of tables in tables, by dotted names; what is named by a number is an optimiser's."""
    for key, value in table.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Tensor):
            yield prefix + key, value.detach()
        elif isinstance(value, Mapping) and depth < DEEPEST:
            yield from _tensors(value, f"{prefix}{key}.", depth + 1)


def _numpy() -> list[Any]:
    """Return what numpy's scalars and arrays are read by, under the names of both of its versions."""
    arrays = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray  # type: ignore[attr-defined]
    made = [(getattr(arrays, name), f"{place}.multiarray.{name}")
            for name in ("scalar", "_reconstruct") for place in ("numpy._core", "numpy.core")]  # fmt: skip
    kinds = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith("DType")]
    return [*made, np.ndarray, *kinds]


NUMPY = _numpy()
