"""Images in files and tensors: what counts as one, reading one, and squaring many."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
SAMPLED = 500  # files whose headers tell the usual size
CHUNK = 1024  # images resized at a time


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image; hidden ones are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def load_image(path: Path) -> Image.Image:
    """An RGB image, turned as its EXIF says. Raises `UserError` for one that cannot be read."""
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image)
            if turned.mode.startswith("I"):  # 16 bits
                turned = Image.fromarray((np.asarray(turned).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            elif turned.mode == "P" and "transparency" in turned.info:
                turned = turned.convert("RGBA")
            return turned.convert("RGB")
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, ... for broken files
        raise UserError(f"{path} cannot be read as an image ({type(error).__name__}); repair or remove it.") from None


def read_sizes(paths: Sequence[Path]) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Width and height [M, 2] of up to 500 images spread over the paths, from their headers."""
    sizes = []
    for path in paths[:: max(len(paths) // SAMPLED, 1)]:
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except Exception as error:
            raise UserError(
                f"{path} cannot be read as an image ({type(error).__name__}); repair or remove it."
            ) from None
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
