"""A network that computes by itself: normalisation, encoder and projector as one, with free axes where it may."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...core.encoders import flat
from .subject import Subject, difference

T = TypeVar("T")
BATCH, SIZE = ("batch",), ("batch", "height", "width")
AXES = {"batch": 0, "height": 2, "width": 3}


class Whole(nn.Module):
    """Maps images [N, C, H, W] to features [N, D]; pixels in [0, 1] where it normalises them."""

    def __init__(self, subject: Subject):
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.encoder, self.projector = subject.encoder, subject.projector
        self.normalise = subject.normalise
        if subject.normalise:
            self.register_buffer("mean", torch.tensor(subject.mean)[:, None, None])
            self.register_buffer("std", torch.tensor(subject.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        if self.normalise:
            images = (images - self.mean) / self.std
        features = flat(self.encoder(images))
        return features if self.projector is None else self.projector(features)


@contextmanager
def quiet() -> Iterator[None]:
    """Let no library warn, and no gradient be kept, in the block."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def sizes(subject: Subject) -> list[tuple[int, int]]:
    """Return heights and widths besides its own at which a net of free size is tried: a smaller one and a larger."""
    size = subject.size
    return [(size * 3 // 4, size * 3 // 4 + 2), (size * 2 + 5, size * 2 + 7)]


def freest(
    subject: Subject, write: Callable[[tuple[str, ...]], Callable[[Tensor], Tensor]], most: float
) -> tuple[Callable[[Tensor], Tensor], tuple[str, ...], list[tuple[int, int]]]:
    """Return what was written with as many free axes as the net allows, those axes, and the sizes that were tried.

    ``write`` is given the axes that are free, and returns what maps the net's input to features. A free size counts
    where a larger image gives the encoder's own features, to ``most`` of the largest. Learnt position embeddings,
    which a net resamples, have one size in what is traced.
    """
    own = (subject.size, subject.size)
    if isinstance(getattr(subject.encoder, "pos_embed", None), nn.Parameter):
        return write(BATCH), BATCH, [own]
    try:
        subject.features(subject.pixels(1, *sizes(subject)[-1]))  # which tells a net of one size at once
        how = write(SIZE)
        right = [size for size in sizes(subject) if _agrees(subject, how, size, most)]
    except Exception:  # a net that is made for one size fails in many ways, each the tracer's own
        right = []
    if sizes(subject)[-1] in right:
        return how, SIZE, sorted([own, *right])
    return write(BATCH), BATCH, [own]


def _agrees(subject: Subject, how: Callable[[Tensor], Tensor], size: tuple[int, int], most: float) -> bool:
    pixels = subject.pixels(2, *size)
    try:
        return difference(how(shown(subject, pixels)), subject.features(pixels)) <= most
    except Exception:  # of this size the encoder, or what was written, takes none
        return False


def shown(subject: Subject, pixels: Tensor) -> Tensor:
    """Return images in [0, 1] as what was written takes them."""
    return pixels if subject.normalise else subject.normalised(pixels)


def notes(subject: Subject, axes: tuple[str, ...], tried: Sequence[tuple[int, int]]) -> list[str]:
    """Return what one has to know of the input and of the axes."""
    values = "pixels in [0, 1]; mean and deviation are inside" if subject.normalise else "pixels that are normalised"
    found = [f"The input is float32 images [N, {subject.channels}, H, W] of {values}."]
    if axes == BATCH:
        found.append(f"N is free, and H and W are {subject.size}.")
    else:
        found.append(f"N, H and W are free: tried at {', '.join(f'{high} x {wide}' for high, wide in tried)} px.")
    return found
