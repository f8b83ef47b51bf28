"""The small-image stem of residual nets, written exactly as one that timm can build, for images 4 times larger.

Our stem is a 3x3 convolution of stride 1 and no pooling. timm has a 7x7 one of stride 2 and, in place of max pooling, a
3x3 one of stride 2. An image whose every pixel is repeated 4 x 4 times has pixel i at rows 4i to 4i+3. The 7x7 kernel,
padded by 3, at the odd place 2i+1 sees rows 4i-1 to 4i+5: one row of pixel i-1, the four of pixel i, and two of pixel
i+1. So each tap of ours is spread evenly over the rows of its pixel. The second convolution, padded by 1, sees at i the
places 2i-1 to 2i+1 and takes the last, each channel its own. Both pad by zeros as ours does.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

SCALE = 4  # how often a pixel is repeated along each side
INTERPOLATION = "box"  # which repeats pixels where it enlarges by a whole number
ARGUMENTS: Mapping[str, object] = {"replace_stem_pool": True}  # of timm's residual nets


def is_small(encoder: nn.Module) -> bool:
    """Return whether a backbone has the stem for small images in place of timm's."""
    return isinstance(getattr(encoder, "maxpool", None), nn.Identity) and isinstance(
        getattr(encoder, "conv1", None), nn.Conv2d
    )


def spread(kernel: Tensor) -> Tensor:
    """Return the 7x7 kernel [O, C, 7, 7] that gives at odd places what a 3x3 one gives of the pixels not repeated."""
    share = torch.zeros(3, 7, dtype=torch.float64)
    share[0, 0], share[1, 1:5], share[2, 5:7] = 1, 1 / 4, 1 / 2
    return torch.einsum("ocij,iy,jx->ocyx", kernel.double(), share, share).to(kernel.dtype)


def convert(encoder: nn.Module, net: nn.Module) -> None:
    """Give a net of timm's with a 7x7 stem and no max pooling the weights of one with our stem.

    Raises `RuntimeError` where the rest of the two differs.
    """
    weights = dict(encoder.state_dict())
    weights["conv1.weight"] = spread(weights["conv1.weight"])
    pool, norm = cast(tuple[nn.Conv2d, nn.BatchNorm2d], (net.maxpool[0], net.maxpool[1]))  # type: ignore[index]
    width = len(pool.weight)
    last = torch.zeros_like(pool.weight)
    last[torch.arange(width), torch.arange(width), 2, 2] = 1
    weights |= {f"maxpool.{name}": value for name, value in net.maxpool.state_dict().items()}  # type: ignore[union-attr]
    weights["maxpool.0.weight"] = last
    weights |= {"maxpool.1.running_mean": torch.zeros(width), "maxpool.1.running_var": torch.ones(width) - norm.eps}
    weights |= {"maxpool.1.weight": torch.ones(width), "maxpool.1.bias": torch.zeros(width)}
    net.load_state_dict(weights)


def repeated(images: Tensor) -> Tensor:
    """Return images [N, C, H, W] with each pixel repeated, [N, C, 4H, 4W]."""
    return images.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)
