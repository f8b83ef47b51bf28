"""Small copies of large pictures, lossless, kept in the cache: a picture is decoded and made small once."""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from torch import Tensor

from ...tools.files import read_regular, temporary
from ...tools.places import cache
from .kept import NO_STATE, Stamp, holds

WORTH = 500_000  # pixels of a picture from which on its copy is kept: smaller ones are decoded in a few milliseconds
ROOM = 0.1  # of the disk that stays free
LARGEST = 1 << 30  # bytes of a copy
HOW = f"2 {PIL.__version__}"  # how copies are made; another number where that changes


@dataclass(frozen=True)
class Held:
    """Holds an image in memory, uint8 [3, H, W], as fine as views need it.

    ``height`` and ``width`` are those of its file, in px, whose ``stamp`` it has if one was read.
    """

    height: int
    width: int
    pixels: Tensor
    stamp: Stamp | None = None

    def copy(self) -> Tensor:
        """Return the pixels."""
        return self.pixels


def find(path: Path, size: int, shown: object) -> Held | None:
    """Return the copy of a file for views of a size in px, if it is kept, whole and of what the file holds now.

    ``shown`` are the values that are black and white in it.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        head, _, raw = read_regular(_place(path, size, shown), LARGEST).partition(b"\n")
        about = json.loads(head)
        stamp = Stamp(bytes.fromhex(about["stamp"]))
        if holds(stamp, str(path)) and zlib.crc32(raw) == about["crc32"]:
            by_pixel = torch.from_numpy(np.frombuffer(bytearray(raw), np.uint8).reshape(*about["shape"], -1))
            return Held(about["height"], about["width"], by_pixel.permute(2, 0, 1), stamp)
    return None


def is_worth_keeping(height: int, width: int, pixels: Tensor) -> bool:
    """Return whether a copy spares its picture, of a height and a width in px, a decoding that takes long."""
    return height * width >= max(WORTH, 2 * pixels[0].numel())


def keep(path: Path, size: int, shown: object, copy: Held) -> None:
    """Keep a copy for `find` where there is room; it may be lost, and is made again then.

    One of a file that had only just changed is not kept: it might be of another content by now.
    """
    if copy.stamp is None or copy.stamp.endswith(NO_STATE):
        return
    place = _place(path, size, shown)
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        disk = shutil.disk_usage(place.parent)
        if disk.free < ROOM * disk.total:
            return
        raw = copy.pixels.permute(1, 2, 0).contiguous().numpy().tobytes()
        about: dict[str, Any] = {"height": copy.height, "width": copy.width, "shape": [*copy.pixels.shape[1:]]}
        about |= {"stamp": copy.stamp.hex(), "crc32": zlib.crc32(raw)}
        part = temporary(place)
        try:
            part.write_bytes(json.dumps(about).encode() + b"\n" + raw)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _place(path: Path, size: int, shown: object) -> Path:
    """Return the cache's file of a picture's copy."""
    name = hashlib.sha1(f"{HOW}\n{size}\n{shown}\n".encode() + os.fsencode(os.path.abspath(path))).hexdigest()
    return cache() / "copies" / name[:2] / name[2:]
