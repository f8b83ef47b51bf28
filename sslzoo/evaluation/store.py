"""Features on disk, by a hash of all that they depend on: an encoder's weights, the images and their transform."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..data.splits import Split
from ..tools.errors import UserError
from ..tools.files import write
from ..tools.places import cache

FORMAT = 2  # of what is done to an image before the network
Floats = npt.NDArray[np.float32]


def cached(key: str, split: Split, make: Callable[[], Floats]) -> Floats:
    """Return the features of a key, memory-mapped; they are made where they are not on disk, and written if possible.

    Beside them lies a list of the split's images that could not be read, which have no row.
    """
    path = cache() / "features" / f"{key}.npy"
    with suppress(OSError, ValueError, EOFError):  # missing or broken: made anew
        rows: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
        split.unreadable.read_list(path.with_suffix(".txt"))
        if len(rows) == len(split.readable()):
            return rows
    rows = make()
    with suppress(OSError, UserError):  # no room, or not ours to write: it goes without
        path.parent.mkdir(parents=True, exist_ok=True)
        if split.unreadable.reasons:
            split.unreadable.write_list(path.with_suffix(".txt"))
        write(path, lambda file: np.save(file, rows))
    return rows


def key(encoder: nn.Module, split: Split, transform: Mapping[str, object]) -> str:
    """Return a name for the features of a split: the same weights, images and transform have the same.

    Images in files count by path, size and time of change.
    """
    digest = hashlib.blake2b(digest_size=16)
    about = [FORMAT, torch.__version__, type(encoder).__name__, transform]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    for part in split.images.fingerprint():
        digest.update(part)
    return digest.hexdigest()
