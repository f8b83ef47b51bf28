"""What an augmentation does to pixels: torchvision's operations on a batch, every image with its own amount.

Images are [N, 3, H, W] in [0, 1], amounts [N] on the images' device.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

GRAY = (0.2989, 0.587, 0.114)
BAND = 16  # pixels that are blurred at a time on a CPU


def each(x: Tensor) -> Tensor:
    """Return [N] as [N, 1, 1, 1]."""
    return x[:, None, None, None]


def crop(images: Tensor, boxes: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crop, resize (bilinear) and flip in one grid sample; boxes [N, 4]: top, left, height, width; flip [N] boolean."""
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


def gray(images: Tensor) -> Tensor:
    """Return the gray of [N, 3, H, W] as [N, 1, H, W]."""
    r, g, b = images.unbind(1)
    return (GRAY[0] * r).add_(g, alpha=GRAY[1]).add_(b, alpha=GRAY[2])[:, None]


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return (images * each(factor)).clamp_(max=1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of the gray image."""
    if images.shape[1] != 3:  # which have no gray: the mean of all channels
        return (images * each(factor)).add_(each(images.mean(dim=(1, 2, 3)) * (1 - factor))).clamp_(0, 1)
    mean = sum(part * images[:, c].mean(dim=(-2, -1)) for c, part in enumerate(GRAY))
    return (images * each(factor)).add_(each(mean * (1 - factor))).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the gray image."""
    return (images * each(factor)).add_(gray(images).mul_(each(1 - factor))).clamp_(0, 1)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by a shift in turns: to HSV, add, and back."""
    r, g, b = images.unbind(1)
    top = torch.maximum(torch.maximum(r, g), b)
    span = top - torch.minimum(torch.minimum(r, g), b)
    blue_or_green = torch.where(top == g, (b - r).add_(span, alpha=2), (r - g).add_(span, alpha=4))
    turned = torch.where(top == r, g - b, blue_or_green).div_(span.clamp(min=1e-12))  # in sixths of a turn
    turned.add_(6 * shift[:, None, None])
    turned.sub_((turned / 6).floor_(), alpha=6)  # the remainder, in less time
    away = torch.empty_like(images)  # of each channel from the top, in parts of the span
    for channel, offset in enumerate((3, 2, 4)):
        torch.sub(turned, offset, out=away[:, channel]).abs_()
    away[:, 0].neg_().add_(3)
    return torch.addcmul(top[:, None], away.sub_(1).clamp_(0, 1), span[:, None], value=-1)


def kernel_size(size: int) -> int:
    """Return an odd tenth of the image, at least 3: SimCLR appendix A."""
    return max(3, 2 * (size // 20) + 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian, sigma in pixels, reflecting at the edge: separable, so one matrix product an axis.

    A CPU computes bands of output pixels, from those that they read alone: the rest of each matrix is 0.
    """
    height, width = images.shape[-2:]
    radius = min(kernel_size(min(height, width)) // 2, height - 1, width - 1)
    down, across = (blur_matrix(sigma, radius, size)[:, None] for size in (height, width))
    if images.device.type != "cpu":
        return down @ images @ across.mT
    halfway, blurred = torch.empty_like(images), torch.empty_like(images)
    for rows, read in bands(height, radius):
        halfway[..., rows, :] = down[..., rows, read] @ images[..., read, :]
    for columns, read in bands(width, radius):
        blurred[..., columns] = halfway[..., read] @ across[..., columns, read].mT
    return blurred


def bands(size: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Yield parts of an axis, and what is read for each of them by a kernel of a radius, all in pixels."""
    for start in range(0, size, BAND):
        yield slice(start, start + BAND), slice(max(0, start - radius), start + BAND + radius)


def blur_matrix(sigma: Tensor, radius: int, size: int) -> Tensor:
    """Return [N, size, size]: row i holds what each of an axis' pixels gives to the blurred pixel i."""
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(dim=1, keepdim=True))[:, None].expand(-1, size, -1)
    read = (torch.arange(size, device=sigma.device)[:, None] + offsets).abs()
    read = torch.where(read >= size, 2 * (size - 1) - read, read)
    return sigma.new_zeros(len(sigma), size, size).scatter_add_(2, read.expand_as(weights), weights)


def solarize(images: Tensor) -> Tensor:
    """Invert what is at least one half."""
    return torch.where(images >= 0.5, 1 - images, images)
