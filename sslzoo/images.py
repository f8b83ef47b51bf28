"""Images in files and tensors: what counts as one, reading one, and squaring many."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from simplejpeg import decode_jpeg
from torch import Tensor

from .errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
SAMPLED = 500  # files whose headers tell the usual size
CHUNK = 1024  # images resized at a time
ORIENTATION = 0x0112  # the tag of EXIF
SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height
EXACT = {"fastdct": False, "fastupsample": False}  # Pillow's pixels, in less time


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image; hidden ones are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


class Picture:
    """An image file whose header is read; ``width`` and ``height`` in px, turned as its EXIF says.

    Raises `UserError` for one that cannot be read, when it is made or when its pixels are.
    """

    def __init__(self, path: Path):
        self.path = path
        with self.reading():
            self.file = path.read_bytes()
            self.image = Image.open(io.BytesIO(self.file))
            self.turned = "exif" in self.image.info and self.image.getexif().get(ORIENTATION, 1) != 1
            sideways = self.turned and self.image.getexif()[ORIENTATION] in SIDEWAYS
        self.width, self.height = self.image.size[::-1] if sideways else self.image.size

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turns whatever a broken file raises into a sentence."""
        try:
            yield
        except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, ... for broken files
            raise UserError(
                f"{self.path} cannot be read as an image ({type(error).__name__}); repair or remove it."
            ) from None

    def pixels(self, room: float = 1) -> Tensor:
        """uint8 [3, H, W]; a JPEG that may be ``room`` times smaller, at least twice, is decoded no finer."""
        with self.reading():
            if self.image.format == "JPEG" and self.image.mode == "RGB" and not self.turned:
                with suppress(ValueError):  # what this finds broken Pillow may still read
                    return torch.from_numpy(decode_jpeg(self.file, **EXACT, **self.coarse(room))).permute(2, 0, 1)
            return torch.from_numpy(np.array(as_rgb(self.image))).permute(2, 0, 1)

    def coarse(self, room: float) -> dict[str, int]:
        """The decoder's options for a smaller transform of each block, by at least two."""
        if room < 2:
            return {}
        return {"min_height": int(self.height / room), "min_width": int(self.width / room), "min_factor": 2}


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, turned as its EXIF says."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):  # 16 bits
        turned = Image.fromarray((np.asarray(turned).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")
    return turned.convert("RGB")


def read_sizes(paths: Sequence[Path]) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Width and height [M, 2] of up to 500 images spread over the paths, from their headers."""
    sizes = []
    for path in paths[:: max(len(paths) // SAMPLED, 1)]:
        picture = Picture(path)
        sizes.append((picture.width, picture.height))
    return np.array(sizes)


def square(images: Tensor, size: int) -> Tensor:
    """uint8 [N, 3, H, W] to [N, 3, size, size]: the shorter side resized (antialiased), the centre kept."""
    height, width = images.shape[-2:]
    if min(height, width) != size:
        scale = size / min(height, width)
        shape = (max(round(height * scale), size), max(round(width * scale), size))
        images = torch.cat([_resized(part, shape) for part in torch.split(images, CHUNK)])
        height, width = shape
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size].contiguous()


def _resized(images: Tensor, shape: tuple[int, int]) -> Tensor:
    found = F.interpolate(images.float(), shape, mode="bilinear", antialias=True, align_corners=False)
    return found.round().clamp(0, 255).to(torch.uint8)
