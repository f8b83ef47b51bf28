"""How Pillow cuts a square out of an image, as the transforms do with which published nets are evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio, str_to_interp_mode
from torch import Tensor

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class Crop:
    """Describes a cut: the image is resized to ``resize`` px by an interpolation, and its centre of ``size`` px kept.

    ``mode`` says what has ``resize`` px: of "center" the shorter side, of "squash" both sides, and of "border" the
    longer side, where the rest is filled with a colour; these are timm's words.
    """

    size: int
    resize: int
    interpolation: str
    mode: str = "center"
    fill: tuple[int, ...] = (0, 0, 0)

    def apply(self, pixels: Tensor) -> Tensor:
        """Return an image, uint8 [C, H, W], as uint8 [C, size, size]."""
        if len(pixels) == 3:
            return self._cut(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), self.fill)
        fills = self.fill if len(self.fill) == len(pixels) else (0,) * len(pixels)
        bands = [Image.fromarray(band.contiguous().numpy()) for band in pixels]
        return torch.cat([self._cut(band, fill) for band, fill in zip(bands, fills, strict=True)])

    def _cut(self, image: Image.Image, fill: int | tuple[int, ...]) -> Tensor:
        mode = str_to_interp_mode(self.interpolation)
        if self.mode == "border":
            image = ResizeKeepRatio((self.resize, self.resize), interpolation=self.interpolation, longest=1.0)(image)
            image = CenterCropOrPad((self.size, self.size), fill=fill)(image)
        else:
            to = [self.resize] if self.mode == "center" else [self.resize, self.resize]
            image = F.center_crop(F.resize(image, to, mode), [self.size, self.size])
        found = torch.from_numpy(np.array(image))
        return found[None] if found.ndim == 2 else found.permute(2, 0, 1)


def stacked(images: Sequence[Tensor], channels: int, size: int) -> Tensor:
    """Return squares as one tensor, uint8 [N, channels, size, size], of none too."""
    return torch.stack([*images]) if images else torch.empty(0, channels, size, size, dtype=torch.uint8)
