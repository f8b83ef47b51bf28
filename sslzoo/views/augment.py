"""Augmentation in batches on the device: every image draws its own parameters, from torchvision's distributions.

The parameters are drawn on the host, so that a seed gives the same views on every device and nothing waits for one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Generator, Tensor

from ..recipes.schema import View
from . import pixels

RATIO = (3 / 4, 4 / 3)  # of width to height, drawn log-uniformly
SIGMA = (0.1, 2.0)  # of the blur
JITTER = ("brightness", "contrast", "saturation", "hue")
BLOCK = 1 << 22  # bytes of images that a CPU works on at a time: what its caches hold; less costs more calls


Share = tuple[int, int]  # a rank, of how many
ALONE = (0, 1)


class Draw:
    """Draws random numbers for N images, from one generator on the host.

    With a ``share``, a rank of so many, they are an equal part of a batch, for all of which is drawn: processes that
    share a batch draw what one would.
    """

    def __init__(self, n: int, generator: Generator, share: Share = ALONE):
        self.n, self.generator, self.share = n, generator, share

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw from [low, high) for each image: [N, *shape]."""
        rank, of = self.share
        drawn = torch.rand(self.n * of, *shape, generator=self.generator)
        return drawn[rank * self.n : (rank + 1) * self.n] * (high - low) + low

    def chance(self, p: float) -> Tensor:
        """Draw for each image whether something of probability p happens to it: [N]."""
        return self.uniform(0, 1) < p

    def order(self, n: int) -> list[int]:
        """Draw one order for all images: which operation comes when is drawn once a batch, how strong per image."""
        return [int(i) for i in torch.randperm(n, generator=self.generator).tolist()]


@dataclass(frozen=True)
class Finish:
    """How a view is handed on: less the mean, over the deviation ([3, 1, 1] or numbers), in a memory layout."""

    mean: Tensor
    std: Tensor
    layout: torch.memory_format = torch.contiguous_format


AS_IS = Finish(torch.zeros(()), torch.ones(()))

Operation = tuple[str, Tensor | None]  # its name in `pixels`, and its amounts [M] where it has any


@dataclass(frozen=True)
class Colour:
    """Holds photometric operations in order, and the places [M], ascending, of the images that get them."""

    rows: Tensor
    operations: list[Operation]

    def within(self, part: slice) -> "Colour":
        """Return those of a part of the images, on the host; the places count from its start."""
        first, last = torch.searchsorted(self.rows, torch.tensor([part.start, part.stop])).tolist()
        amounts = [(name, x if x is None else x[first:last]) for name, x in self.operations]
        return Colour(self.rows[first:last] - part.start, amounts)


@dataclass(frozen=True)
class Drawn:
    """Holds what was drawn for a view of N images: its colours, and crops [N, 4] and flips [N] unless it is cropped."""

    colours: list[Colour]
    cut: tuple[Tensor, Tensor] | None = None

    def tensors(self) -> list[Tensor]:
        """Return all of its tensors, in order."""
        found = [*(self.cut or ())]
        for one in self.colours:
            found += [one.rows, *(x for _, x in one.operations if x is not None)]
        return found

    def filled(self, there: Iterator[Tensor]) -> "Drawn":
        """Return the same with other tensors, in the order of `tensors`."""
        cut = self.cut and (next(there), next(there))
        return Drawn(
            [
                Colour(next(there), [(name, x if x is None else next(there)) for name, x in one.operations])
                for one in self.colours
            ],
            cut,
        )


def sent(index: Tensor, drawn: Sequence[Drawn], device: torch.device) -> tuple[Tensor, list[Drawn]]:
    """Return places and what was drawn for them on a device: all goes in one copy, for which nobody waits."""
    if device.type == "cpu":
        return index, [*drawn]
    tensors = [index, *(x for one in drawn for x in one.tensors())]
    there = iter(unpacked(packed(tensors, device.type == "cuda").to(device, non_blocking=True), tensors))
    return next(there), [one.filled(there) for one in drawn]


def packed(tensors: Sequence[Tensor], pinned: bool = False) -> Tensor:
    """Return tensors of the host as bytes in a row, perhaps in pinned memory."""
    found = torch.empty(_starts(tensors)[-1], dtype=torch.uint8, pin_memory=pinned)
    for start, x in zip(_starts(tensors), tensors, strict=False):
        found[start : start + x.nbytes] = x.contiguous().view(-1).view(torch.uint8)
    return found


def unpacked(found: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what `packed` made of tensors, as views of its bytes, wherever these are now."""
    starts = _starts(tensors)
    return [found[i : i + x.nbytes].view(x.dtype).view(x.shape) for i, x in zip(starts, tensors, strict=False)]


def _starts(tensors: Sequence[Tensor]) -> list[int]:
    """Return where in a row of bytes each tensor begins, and the end: only where a number of eight bytes may."""
    return [*accumulate((-(-x.nbytes // 8) * 8 for x in tensors), initial=0)]


def augment(
    images: Tensor, view: View, size: int, generator: Generator, finish: Finish = AS_IS, share: Share = ALONE
) -> Tensor:
    """Return a view [N, 3, size, size] of images [N, 3, H, W], uint8 or in [0, 1]; the generator is the host's."""
    drawn = draw_view(Draw(len(images), generator, share), view, (images.shape[-2], images.shape[-1]))
    return develop(images, drawn, size, finish)


def photometric(
    crops: Tensor, view: View, generator: Generator, finish: Finish = AS_IS, share: Share = ALONE
) -> Tensor:
    """Return a view of crops [N, 3, H, W], uint8 or in [0, 1], that are flipped already: the rest of what makes one."""
    return develop(crops, draw_view(Draw(len(crops), generator, share), view), crops.shape[-1], finish)


def draw_view(draw: Draw, view: View, shape: tuple[int, int] | None = None) -> Drawn:
    """Draw all that is random in a view of images of a height and width, or of crops."""
    cut = None if shape is None else (draw_boxes(draw, *shape, view), draw.chance(view.flip))
    return Drawn(draw_colours(draw, view), cut)


def as_float(images: Tensor) -> Tensor:
    """Return uint8 as float32 in [0, 1], and floats as float32."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def draw_boxes(draw: Draw, height: int | Tensor, width: int | Tensor, view: View) -> Tensor:
    """Draw crops [N, 4] (top, left, height, width), in pixels: RandomResizedCrop's ten tries, then its central one.

    The images are of one height and width, or of as many [N].
    """
    tries = 10
    tall, wide = (torch.as_tensor(x, dtype=torch.float32).expand(draw.n) for x in (height, width))
    area = (tall * wide)[:, None] * draw.uniform(view.scale_min, max(view.scale_max, view.scale_min), tries)
    ratio = torch.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1]), tries))
    w, h = torch.round(torch.sqrt(area * ratio)), torch.round(torch.sqrt(area / ratio))
    fits = (w >= 1) & (w <= wide[:, None]) & (h >= 1) & (h <= tall[:, None])
    first = fits.float().argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first).squeeze(1), h.gather(1, first).squeeze(1)
    top = torch.floor(draw.uniform(0, 1) * (tall - h + 1))
    left = torch.floor(draw.uniform(0, 1) * (wide - w + 1))
    boxes = torch.stack([top, left, h, w], dim=1)
    shape = (wide / tall).clamp(*RATIO)  # the fallback: the largest central crop of a legal ratio
    w, h = torch.minimum(wide, torch.round(tall * shape)), torch.minimum(tall, torch.round(wide / shape))
    fallback = torch.stack([((tall - h) / 2).floor(), ((wide - w) / 2).floor(), h, w], dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), boxes, fallback)


def draw_colours(draw: Draw, view: View) -> list[Colour]:
    """Draw colour jitter in a random order, grayscale, blur and solarize, and for each image which of these it gets."""
    groups: list[tuple[Tensor, list[Operation]]] = []
    if view.jitter:
        strengths = (view.brightness, view.contrast, view.saturation)
        amounts = [draw.uniform(max(0.0, 1 - s), 1 + s) for s in strengths] + [draw.uniform(-view.hue, view.hue)]
        chosen = draw.chance(view.jitter)
        order = [i for i in draw.order(len(JITTER)) if (*strengths, view.hue)[i]]
        groups += [(chosen, [(JITTER[i], amounts[i]) for i in order])] if order else []
    if view.grayscale:
        groups.append((draw.chance(view.grayscale), [("gray", None)]))
    if view.blur:
        sigma = draw.uniform(*SIGMA)
        groups.append((draw.chance(view.blur), [("blur", sigma)]))
    if view.solarize:
        groups.append((draw.chance(view.solarize), [("solarize", None)]))
    colours = []
    for chosen, operations in groups:
        rows = chosen.nonzero().squeeze(1)
        colours.append(Colour(rows, [(name, x if x is None else x[rows]) for name, x in operations]))
    return colours


def develop(images: Tensor, drawn: Drawn, size: int, finish: Finish) -> Tensor:
    """Return a view as it was drawn, on the images' device: cut to a size unless it is, coloured and finished.

    On a CPU in parts that stay in its cache.
    """
    shape = images.shape if drawn.cut is None else (len(images), images.shape[1], size, size)
    made = torch.empty(shape, device=images.device, memory_format=finish.layout)
    if images.device.type != "cpu":
        parts, colours = [slice(0, len(images))], [drawn.colours]
    else:
        at_once = max(1, BLOCK // (4 * math.prod(shape[1:])))
        parts = [slice(start, start + at_once) for start in range(0, len(images), at_once)]
        colours = [[one.within(part) for one in drawn.colours] for part in parts]
    for part, painted in zip(parts, colours, strict=True):
        raw = as_float(images[part])
        if drawn.cut is not None:
            boxes, flip = drawn.cut
            raw = pixels.crop(raw, boxes[part], flip[part], size)
        made[part] = paint(raw, painted).sub(finish.mean).div_(finish.std)
    return made


def paint(images: Tensor, colours: Sequence[Colour]) -> Tensor:
    """Apply to images [M, 3, H, W] the operations that each of them drew."""
    for one in colours:
        if len(one.rows):
            changed = images[one.rows]
            for name, amounts in one.operations:
                changed = getattr(pixels, name)(changed, *(() if amounts is None else (amounts,)))
            images = images.index_copy(0, one.rows, changed.expand(-1, images.shape[1], -1, -1))
    return images
