"""Images in files and tensors: what counts as one, reading one, and squaring many."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from .errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
SAMPLED = 500  # files whose headers tell the usual size


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image; hidden ones are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def load_image(path: Path) -> Image.Image:
    """An RGB image, turned as its EXIF says. Raises `UserError` for one that cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
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
            raise UserError(f"{path} cannot be read as an image ({type(error).__name__}); repair or remove it.") from None
    return np.array(sizes)


def square(images: Tensor, size: int) -> Tensor:
    """uint8 [N, 3, H, W] to [N, 3, size, size]: the shorter side resized (antialiased), the centre kept."""
    height, width = images.shape[-2:]
    if min(height, width) != size:
        scale = size / min(height, width)
        shape = (max(round(height * scale), size), max(round(width * scale), size))
        parts = [
            F.interpolate(part.float(), shape, mode="bilinear", antialias=True, align_corners=False).round().clamp(0, 255).byte()
            for part in images.split(1024)
        ]
        images = parts[0].new_empty((len(images), 3, *shape)) if len(parts) > 1 else parts[0]
        if len(parts) > 1:
            for start, part in zip(range(0, len(images), 1024), parts, strict=True):
                images[start : start + 1024] = part
        height, width = shape
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size].contiguous()
