"""What goes out: an encoder with the images that it is made for, and what a format says of what it has written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.backbones import Backbone
from ...core.encoders import flat
from ...recipes import plugins
from ...tools.errors import UserError

TOLERANCE = 1e-5  # the largest difference between features, as a part of the largest of them


@dataclass(frozen=True)
class Subject:
    """Holds an ``encoder`` in eval mode on the CPU, of the ``backbone`` of this name, and how images are shown to it.

    ``size`` is in pixels, ``mean`` and ``std`` are its channels', of pixels in [0, 1]. With a ``projector``, the
    features are what that gives. With ``normalise``, what computes by itself takes pixels in [0, 1].
    """

    backbone: str
    encoder: nn.Module
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    projector: nn.Module | None = None
    normalise: bool = True

    @property
    def channels(self) -> int:
        """Return the number of an image's channels."""
        return len(self.mean)

    @property
    def name(self) -> str:
        """Return the backbone's name without its arguments."""
        return Backbone.parse(self.backbone).name

    @property
    def own(self) -> bool:
        """Return whether the backbone is a person's own, which no library knows how to build."""
        return plugins.backbone(self.name) is not None

    def pixels(self, number: int, height: int | None = None, width: int | None = None) -> Tensor:
        """Return images [number, channels, height, width] of random grey levels, in [0, 1], each time the same."""
        shape = (number, self.channels, height or self.size, width or self.size)
        return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return images less the mean, over the deviation."""
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std

    def features(self, pixels: Tensor) -> Tensor:
        """Return the features [N, D] of images [N, C, H, W] in [0, 1]."""
        with torch.no_grad():
            found = flat(self.encoder(self.normalised(pixels)))
            return found if self.projector is None else self.projector(found)


@dataclass(frozen=True)
class Written:
    """Says what a format has written: ``usage`` is the Python that loads it and gives the features of a picture.

    ``difference`` is the largest between its features and the encoder's own, as a part of the largest of these.
    ``size`` is that of the images that it takes, in px, and ``interpolation`` how its library is told to get there.
    ``free`` names the axes of its input that may have any length, ``tried`` the heights and widths at which it was
    compared, and ``notes`` are what one has to know.
    """

    usage: str
    difference: float
    features: int
    size: int
    interpolation: str | None = None
    free: Sequence[str] = ()
    tried: Sequence[tuple[int, int]] = ()
    notes: Sequence[str] = ()


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference between features [N, D], as a part of the largest; infinite for other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()


def compared(subject: Subject, how: Callable[[Tensor], Tensor], most: float = TOLERANCE) -> tuple[float, int]:
    """Return the `difference` between what was written gives for images in [0, 1], and the encoder, and the width.

    Raises `UserError` where it is more than ``most``.
    """
    pixels = subject.pixels(7)
    expected = subject.features(pixels)
    with torch.no_grad():
        found = difference(how(pixels), expected)
    if not found <= most:  # nan too
        raise UserError(
            f"What was written of {subject.backbone} gives other features (by {found:.1e} of the largest); use another "
            "format."
        )
    return found, expected.shape[1]
