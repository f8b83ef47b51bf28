"""Pictures of one, two, or four to thirteen channels, as --channels asks for: arrays in .npy files, TIFFs, and others.

Channels stay as they are in the file, apart from the range that is black to white; no colours are made of them.
"""

import io
import re
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ImageOps
from torch import Tensor

from ..contents.hashes import MOST_BYTES
from ..decoded.ranges import Bands, Range
from ..depth import Extent, Unsupported, suggested
from ..packed.index import read_with_state
from ..picture import MAX_PIXELS, Picture, UnreadableImage, as_rgb

NPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how one begins, the latter two of more than 4 GB
SUFFIXES = frozenset({".npy"})  # of files that are pictures only where channels are asked for

HEADER = re.compile(rb"\{'descr': '([<>|=][biuf]\d+)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\),? ?\}\s*")

Array = npt.NDArray[Any]


def opened(path: Path, shown: Range | None) -> Picture:
    """Return a picture whose header is read, of three colours or of the channels that are asked for.

    Raises `UnreadableImage`.
    """
    return BandPicture(path, shown) if isinstance(shown, Bands) else Picture(path, shown)


def npy(content: bytes) -> Array:
    """Return the numbers of an .npy. Raises `ValueError` for one that breaks off, and what numpy raises for others.

    numpy reads headers by `ast`, which in Python 3.11 fails now and then where several threads use it.
    """
    length = 2 if content[6:7] == b"\1" else 4  # bytes of the header's length, by the format's version
    start = 8 + length + int.from_bytes(content[8 : 8 + length], "little")
    found = HEADER.fullmatch(content, 8 + length, start)
    if found is None:
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    kind, fortran, sides = (part.decode() for part in found.groups())
    shape = tuple(int(side) for side in sides.split(",") if side.strip())
    if len(content) - start < np.dtype(kind).itemsize * prod(shape):
        raise ValueError("truncated")
    flat = np.frombuffer(content, kind, prod(shape), start)
    return flat.reshape(shape, order="F" if fortran == "True" else "C")


class BandPicture(Picture):
    """A picture of so many channels, all of it read; ``array`` [H, W, C] has the values of the file."""

    def __init__(self, path: Path, shown: Bands):
        self.path, self.file, self.width, self.height, self.shown, self.bands = path, b"", 0, 0, shown, shown
        self.depth, self.turned = None, False
        with self.reading():
            self.file, self.state = read_with_state(path, MOST_BYTES)
            self.array = self._channels_last(self._read())
        self.height, self.width = self.array.shape[:2]
        if self.width * self.height > MAX_PIXELS:
            size = f"{self.width * self.height / 1e6:,.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}"
            raise UnreadableImage(f"{path} has {size}; shrink it.", f"has {size}; shrink it")
        if self.array.dtype != np.uint8 and not shown.given:
            found = Extent.of(self.array)
            why = (
                f"has values of {self.array.dtype} from {found.low:.6g} to {found.high:.6g}; say which range is black "
                f"to white with --range {suggested(found, self.array.dtype.kind == 'f')}"
            )
            raise UnreadableImage(f"{path} {why}.", why)

    @property
    def pages(self) -> int:
        """All of them are read."""
        return 1

    @property
    def transparent(self) -> bool:
        """A fourth channel is one like the others."""
        return False

    def pixels(self, shrink: float = 1) -> Tensor:
        """Return uint8 [C, H, W]."""
        values = self.array if self.array.dtype == np.uint8 else self.bands.to_8_bits(self.array)
        return torch.from_numpy(np.array(values.transpose(2, 0, 1), order="C"))

    def _read(self) -> Array:
        """Return the values of the file, channels first or last, or of one channel without."""
        if self.file.startswith(NPY):
            return npy(self.file)
        if self.file.startswith(TIFF) and find_spec("tifffile") is not None:
            import tifffile

            return np.asarray(tifffile.imread(io.BytesIO(self.file)))
        if self.file.startswith(TIFF) and self.bands.channels > 4:
            raise Unsupported("it is a TIFF, which needs tifffile for so many channels: pip install 'sslzoo[tiff]'")
        self.image = self.open()
        if self.bands.channels == 1 and self.image.mode not in ("I", "F", "I;16", "I;16B", "L"):
            return np.asarray(as_rgb(self.image).convert("L"))
        return np.asarray(ImageOps.exif_transpose(self.image))

    def _channels_last(self, array: Array) -> Array:
        """Return values as [H, W, C]. Raises `Unsupported` where there are not as many channels as are asked for."""
        channels = self.bands.channels
        if array.dtype.kind not in "iufb":
            raise Unsupported(f"its values are {array.dtype} and no numbers")
        array = array.astype(np.uint8) if array.dtype == np.bool_ else array
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim == 3 and array.shape[-1] != channels and array.shape[0] == channels:
            array = array.transpose(1, 2, 0)
        if array.ndim != 3 or 0 in array.shape or array.shape[-1] != channels:
            if array.ndim == 3 and channels == 1 and array.dtype == np.uint8 and array.shape[-1] in (3, 4):
                return np.asarray(as_rgb(self.open()).convert("L"))[..., None]
            shape = " x ".join(map(str, array.shape))
            raise Unsupported(f"it is an array of {shape}, which is not the {channels} of --channels")
        return array
