"""Augmentation in batches on the device: every image draws its own parameters, from torchvision's distributions.

The parameters are drawn on the host, so that a seed gives the same views on every device and nothing waits for one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..recipes.schema import View
from . import pixels

RATIO = (3 / 4, 4 / 3)  # of width to height, drawn log-uniformly
SIGMA = (0.1, 2.0)  # of the blur
JITTER = ("brightness", "contrast", "saturation", "hue")
BLOCK = 1 << 20  # bytes of images that a CPU works on at a time: what its cache holds


Share = tuple[int, int]  # a rank, of how many
ALONE = (0, 1)


class Draw:
    """Random numbers for N images, from one generator on the host.

    With a ``share``, a rank of so many, they are an equal part of a batch, for all of which is drawn: processes that
    share a batch draw what one would.
    """

    def __init__(self, n: int, generator: Generator, share: Share = ALONE):
        self.n, self.generator, self.share = n, generator, share

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        rank, of = self.share
        drawn = torch.rand(self.n * of, *shape, generator=self.generator)
        return drawn[rank * self.n : (rank + 1) * self.n] * (high - low) + low

    def chance(self, p: float) -> Tensor:
        return self.uniform(0, 1) < p

    def order(self, n: int) -> list[int]:
        """One permutation for all images: which operation comes when is drawn once a batch, how strong per image."""
        return [int(i) for i in torch.randperm(n, generator=self.generator).tolist()]


Operation = tuple[str, Tensor | None]  # its name in `pixels`, and its amounts [N] where it has any


@dataclass(frozen=True)
class Finish:
    """How a view is handed on: less the mean, over the deviation ([3, 1, 1] or numbers), in a memory layout."""

    mean: Tensor
    std: Tensor
    layout: torch.memory_format = torch.contiguous_format


AS_IS = Finish(torch.zeros(()), torch.ones(()))


# The photometric operations in order, in groups: which of N images get a group is drawn once for each image.
Colours = list[tuple[Tensor, list[Operation]]]


def augment(
    images: Tensor, view: View, size: int, generator: Generator, finish: Finish = AS_IS, share: Share = ALONE
) -> Tensor:
    """A view [N, 3, size, size] of images [N, 3, H, W], uint8 or in [0, 1]; the generator is the host's."""
    draw, device = Draw(len(images), generator, share), images.device
    boxes, flip = draw_boxes(draw, images.shape[-2], images.shape[-1], view), draw.chance(view.flip)
    boxes, flip = boxes.to(device, non_blocking=True), flip.to(device, non_blocking=True)
    colours = draw_colours(draw, view)

    def cut(part: slice) -> Tensor:
        return pixels.crop(as_float(images[part]), boxes[part], flip[part], size)

    return developed(cut, (len(images), 3, size, size), colours, finish, device)


def photometric(
    crops: Tensor, view: View, generator: Generator, finish: Finish = AS_IS, share: Share = ALONE
) -> Tensor:
    """The rest of a view [N, 3, H, W] after its crop and flip, uint8 or in [0, 1]."""
    colours = draw_colours(Draw(len(crops), generator, share), view)
    return developed(lambda part: as_float(crops[part]), crops.shape, colours, finish, crops.device)


def as_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; floats to float32."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def draw_boxes(draw: Draw, height: int | Tensor, width: int | Tensor, view: View) -> Tensor:
    """Crops [N, 4] (top, left, height, width), in pixels: RandomResizedCrop's ten tries, then the central fallback.

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


def draw_colours(draw: Draw, view: View) -> Colours:
    """Colour jitter in a random order, grayscale, blur and solarize."""
    groups: Colours = []
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
    return groups


def developed(
    cut: Callable[[slice], Tensor], shape: Sequence[int], colours: Colours, finish: Finish, device: torch.device
) -> Tensor:
    """Views of a shape [N, 3, H, W]: cut, coloured and finished; on a CPU in parts that stay in its cache."""
    made = torch.empty(tuple(shape), device=device, memory_format=finish.layout)
    at_once = max(1, BLOCK // (4 * math.prod(shape[1:]))) if device.type == "cpu" else shape[0]
    for start in range(0, shape[0], at_once):
        part = slice(start, start + at_once)
        made[part] = paint(cut(part), colours, start).sub(finish.mean).div_(finish.std)
    return made


def paint(images: Tensor, colours: Colours, start: int = 0) -> Tensor:
    """Apply to images [M, 3, H, W], of which the first is number ``start``, the operations that each of them drew."""
    for chosen, operations in colours:
        rows = chosen[start : start + len(images)].nonzero().squeeze(1)
        if len(rows):
            here = rows.to(images.device, non_blocking=True)
            changed = images[here]
            for name, amounts in operations:
                given = () if amounts is None else (amounts[start + rows].to(images.device, non_blocking=True),)
                changed = getattr(pixels, name)(changed, *given)
            images = images.index_copy(0, here, changed.expand(-1, 3, -1, -1))
    return images
