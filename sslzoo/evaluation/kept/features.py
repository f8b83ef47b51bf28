"""Features on disk, by a hash of all that they depend on: an encoder's weights, the images and their transform."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...data.splits import Split
from ...tools import files
from ...tools.errors import UserError
from ...tools.places import cache

FORMAT = 2  # of what is done to an image before the network, and of what is kept
DIGEST = 32  # bytes of a SHA-256
CHUNK = 1 << 20  # bytes read at a time
Floats = npt.NDArray[np.float32]


def cached(
    encoder: nn.Module,
    split: Split,
    transform: Mapping[str, object],
    make: Callable[[], Floats],
    say: Callable[[str], None] = lambda _: None,
) -> Floats:
    """Return the features [N, D] of a split, memory-mapped; they are made where they are not on disk, and kept.

    Beside them lies a list of the split's images that could not be read, which have no row. ``say`` hears of what is
    not as it was written, and is made anew. Images of files are found by their content, where that is known.
    """
    if split.images.hashed():
        path = _path(encoder, split, transform)
        try:
            if (rows := _read(path, split)) is not None:
                return rows
        except OSError as error:
            say(f"the cached features {path} cannot be read ({files.reason(error)}), and are made anew")
        except (ValueError, EOFError):
            say(f"the cached features {path} were damaged, and are made anew")
    rows = make()
    with suppress(OSError, UserError):  # no room, or not ours to write: it goes without
        path = _path(encoder, split, transform)
        path.parent.mkdir(parents=True, exist_ok=True)
        split.unreadable.write_list(path.with_suffix(".txt"))
        files.write(path, lambda file: _write(file, rows))
    return rows


def _write(file: BinaryIO, rows: Floats) -> None:
    """Write features as an .npy, and behind it the hash of all before, which numpy does not read."""
    np.save(file, rows)
    file.flush()
    with open(file.name, "rb") as written:
        file.write(hashlib.file_digest(written, "sha256").digest())


def _read(path: Path, split: Split) -> Floats | None:
    """Return the features of a file, None where there is none. Raises `ValueError` where it is damaged."""
    try:
        digest, size = hashlib.sha256(), path.stat().st_size - DIGEST
        with path.open("rb") as file:
            while part := file.read(min(CHUNK, size - file.tell())):
                digest.update(part)
            if file.read() != digest.digest():
                raise ValueError
    except (FileNotFoundError, NotADirectoryError):
        return None
    rows: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    split.unreadable.read_list(path.with_suffix(".txt"))
    if rows.ndim != 2 or rows.dtype != np.float32 or len(rows) != len(split.readable()):
        raise ValueError
    return rows


def _path(encoder: nn.Module, split: Split, transform: Mapping[str, object]) -> Path:
    return cache() / "features" / f"{key(encoder, split, transform)}.npy"


def key(encoder: nn.Module, split: Split, transform: Mapping[str, object]) -> str:
    """Return a name for the features of a split: the same weights, images and transform have the same."""
    digest = of_network(encoder, transform)
    for part in split.images.fingerprint():
        digest.update(part)
    return digest.hexdigest()


def of_network(encoder: nn.Module, transform: Mapping[str, object]) -> "hashlib.blake2b":
    """Return a hash of a network's kind, state and transform, to which more may be added."""
    digest = hashlib.blake2b(digest_size=16)
    about = [FORMAT, torch.__version__, type(encoder).__name__, transform]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest
