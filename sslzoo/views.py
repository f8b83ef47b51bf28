"""Augmentation, batched on the device: every image draws its own parameters, from torchvision's distributions."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .schema import View

RATIO = (3 / 4, 4 / 3)  # of width to height, drawn log-uniformly
SIGMA = (0.1, 2.0)  # of the blur
GRAY = (0.2989, 0.587, 0.114)


class Draw:
    """Random numbers for N images on one device, from one generator."""

    def __init__(self, n: int, device: torch.device, generator: Generator):
        self.n, self.device, self.generator = n, device, generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(self.n, *shape, device=self.device, generator=self.generator) * (high - low) + low

    def chance(self, p: float) -> Tensor:
        return self.uniform(0, 1) < p

    def order(self, n: int) -> list[int]:
        """One permutation for all images: which operation comes when is drawn once a batch, how strong per image."""
        device = self.generator.device
        return [int(i) for i in torch.randperm(n, device=device, generator=self.generator).tolist()]


def augment(images: Tensor, view: View, size: int, generator: Generator) -> Tensor:
    """A view [N, 3, size, size] in [0, 1] of images [N, 3, H, W], uint8 or in [0, 1]."""
    images = as_float(images)
    draw = Draw(len(images), images.device, generator)
    boxes = draw_boxes(draw, images.shape[-2], images.shape[-1], view)
    return photometric(crop(images, boxes, draw.chance(view.flip), size), view, generator)


def as_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; floats stay."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def draw_boxes(draw: Draw, height: int, width: int, view: View) -> Tensor:
    """Crops [N, 4] (top, left, height, width), in pixels: RandomResizedCrop's ten tries, then the central fallback."""
    tries = 10
    area = height * width * draw.uniform(view.scale_min, max(view.scale_max, view.scale_min), tries)
    ratio = torch.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1]), tries))
    w, h = torch.round(torch.sqrt(area * ratio)), torch.round(torch.sqrt(area / ratio))
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.float().argmax(dim=1, keepdim=True)
    w, h = w.gather(1, first).squeeze(1), h.gather(1, first).squeeze(1)
    top = torch.floor(draw.uniform(0, 1) * (height - h + 1))
    left = torch.floor(draw.uniform(0, 1) * (width - w + 1))
    boxes = torch.stack([top, left, h, w], dim=1)
    shape = min(max(width / height, RATIO[0]), RATIO[1])  # the fallback: the largest central crop of a legal ratio
    fw, fh = min(width, round(height * shape)), min(height, round(width / shape))
    fallback = boxes.new_tensor([(height - fh) // 2, (width - fw) // 2, fh, fw])
    return torch.where(fits.any(dim=1, keepdim=True), boxes, fallback)


def crop(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crop, resize (bilinear) and flip in one grid sample; boxes [N, 4], flip [N] boolean."""
    height, width = images.shape[-2:]
    top, left, h, w = boxes.unbind(1)
    centres = (torch.arange(size, device=images.device) + 0.5) / size  # of the output's pixels, in parts of the box
    across = torch.where(flip[:, None], 1 - centres, centres)
    # bilinear resizing reads nothing outside the box: hold the sampling points half a pixel inside it
    x = (left[:, None] + (across * w[:, None]).clamp(min=0.5).minimum(w[:, None] - 0.5)) / width * 2 - 1
    y = (top[:, None] + (centres * h[:, None]).clamp(min=0.5).minimum(h[:, None] - 0.5)) / height * 2 - 1
    shape = (len(images), size, size)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def photometric(images: Tensor, view: View, generator: Generator) -> Tensor:
    """Colour jitter, grayscale, blur and solarize, each on the images that draw it."""
    draw = Draw(len(images), images.device, generator)
    if view.jitter:
        images = jitter(images, draw, view)
    if view.grayscale:
        images = torch.where(_each(draw.chance(view.grayscale)), gray(images).expand_as(images), images)
    if view.blur:
        blurred = blur(images, draw.uniform(*SIGMA))
        images = torch.where(_each(draw.chance(view.blur)), blurred, images)
    if view.solarize:
        images = torch.where(_each(draw.chance(view.solarize)) & (images >= 0.5), 1 - images, images)
    return images


def jitter(images: Tensor, draw: Draw, view: View) -> Tensor:
    """Brightness, contrast, saturation and hue in random order, on the images that draw it."""

    def strength(s: float) -> Tensor:
        return draw.uniform(max(0.0, 1 - s), 1 + s)

    operations: Sequence[tuple[Callable[[Tensor, Tensor], Tensor], float, Tensor]] = (
        (brightness, view.brightness, strength(view.brightness)),
        (contrast, view.contrast, strength(view.contrast)),
        (saturation, view.saturation, strength(view.saturation)),
        (hue, view.hue, draw.uniform(-view.hue, view.hue)),
    )
    chosen, changed = draw.chance(view.jitter), images
    for i in draw.order(len(operations)):
        operation, most, amounts = operations[i]
        changed = operation(changed, amounts) if most else changed
    return torch.where(_each(chosen), changed, images)


def _each(x: Tensor) -> Tensor:
    """[N] to [N, 1, 1, 1]."""
    return x[:, None, None, None]


def gray(images: Tensor) -> Tensor:
    """[N, 3, H, W] to [N, 1, H, W]."""
    r, g, b = images.unbind(1)
    return (GRAY[0] * r + GRAY[1] * g + GRAY[2] * b)[:, None]


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black, factor [N]."""
    return (images * _each(factor)).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of the gray image, factor [N]."""
    mean = gray(images).mean(dim=(-3, -2, -1), keepdim=True)
    return torch.lerp(mean, images, _each(factor)).clamp(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image, factor [N]."""
    return torch.lerp(gray(images), images, _each(factor)).clamp(0, 1)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by shift [N], in turns: to HSV, add, and back."""
    r, g, b = images.unbind(1)
    top, bottom = images.amax(1), images.amin(1)
    span = top - bottom
    safe = torch.where(span == 0, torch.ones_like(span), span)
    sector = torch.where(top == r, (g - b) / safe, torch.where(top == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    turned = sector + 6 * shift[:, None, None]  # in sixths of a turn
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: V - V S max(0, min(k, 4 - k, 1))
        k = (turned + offset) % 6
        channels.append(top - span * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def kernel_size(size: int) -> int:
    """An odd tenth of the image, at least 3: SimCLR appendix A."""
    return max(3, 2 * (size // 20) + 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, sigma [N] in pixels: two passes of a depthwise convolution, reflecting at the edge."""
    n, c, height, width = images.shape
    radius = min(kernel_size(min(height, width)) // 2, height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)  # [N * c, taps]
    stacked = F.pad(images, (radius,) * 4, mode="reflect").reshape(1, n * c, height + 2 * radius, width + 2 * radius)
    stacked = F.conv2d(stacked, weights[:, None, :, None], groups=n * c)
    return F.conv2d(stacked, weights[:, None, None, :], groups=n * c).reshape(n, c, height, width)
