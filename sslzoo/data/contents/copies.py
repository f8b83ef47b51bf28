"""Small copies of large pictures, lossless, kept in the cache: a picture is decoded and made small once."""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
from torch import Tensor

from ...tools.files import read_regular, temporary
from ...tools.places import cache
from .kept import NO_STATE, SHA1, Stamp, holds

WORTH = 500_000  # pixels of a picture from which on its copy is kept: smaller ones are decoded in a few milliseconds
ROOM = 0.1  # of the disk that stays free
LARGEST = 1 << 30  # bytes of a copy
HOW = f"1 {PIL.__version__}"  # how copies are made; another number where that changes


class Copy(NamedTuple):
    """Holds a picture's copy, uint8 [3, H, W], the picture's own height and width in px, and its file's stamp."""

    height: int
    width: int
    stamp: Stamp
    pixels: Tensor


def find(path: Path, size: int, shown: object) -> Copy | None:
    """Return the copy of a file for views of a size in px, if it is kept, whole and of what the file holds now.

    ``shown`` are the values that are black and white in it.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        head, _, raw = read_regular(_place(path, size, shown), LARGEST).partition(b"\n")
        about = json.loads(head)
        stamp = Stamp(bytes.fromhex(about["stamp"]))
        if holds(stamp, str(path)) and zlib.crc32(raw) == about["crc32"]:
            pixels = torch.from_numpy(np.frombuffer(bytearray(raw), np.uint8).reshape(3, *about["shape"]))
            return Copy(about["height"], about["width"], stamp, pixels)
    return None


def keep(path: Path, size: int, shown: object, copy: Copy) -> None:
    """Keep a copy for `find` where it is worth it, and where there is room; it may be lost, and is made again then."""
    settled = copy.stamp[SHA1:] != NO_STATE
    if copy.height * copy.width < WORTH or 2 * copy.pixels[0].numel() > copy.height * copy.width or not settled:
        return
    place = _place(path, size, shown)
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        disk = shutil.disk_usage(place.parent)
        if disk.free < ROOM * disk.total:
            return
        raw = copy.pixels.contiguous().numpy().tobytes()
        about = {
            "height": copy.height,
            "width": copy.width,
            "shape": [*copy.pixels.shape[1:]],
            "stamp": copy.stamp.hex(),
        }
        part = temporary(place)
        try:
            part.write_bytes(json.dumps({**about, "crc32": zlib.crc32(raw)}).encode() + b"\n" + raw)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _place(path: Path, size: int, shown: object) -> Path:
    """Return the cache's file of a picture's copy."""
    name = hashlib.sha1(f"{HOW}\n{size}\n{shown}\n".encode() + os.fsencode(os.path.abspath(path))).hexdigest()
    return cache() / "copies" / name[:2] / name[2:]
