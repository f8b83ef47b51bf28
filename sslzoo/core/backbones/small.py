"""A net of four layers, for small images and for the CPU."""

from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM = "stem_stride"  # of a state dict: the first convolution's, where that is not 1


class SmallNet(nn.Module):
    """Four convolutions with batch norm, widths 16 to 128; its features are the 4x4 map, flattened.

    The map is kept, not averaged: on small images the place of a stroke is what tells shapes apart. Of images
    larger than about 45 px the first convolution has a stride, the power of two nearest to the size over 32: the map
    after it has about 32 px, and the net costs what it does on such images.
    """

    num_features = 128 * 4 * 4

    def __init__(self, image_size: int = 32, channels: int = 3) -> None:
        super().__init__()
        stem = 1 << max(0, round(log2(image_size / 32)))
        layers: list[nn.Module] = []
        for fan_in, fan_out, stride in ((channels, 16, stem), (16, 32, 2), (32, 64, 2), (64, 128, 2)):
            kernel = max(3, 2 * stride - 1)
            layers += [
                nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(fan_out),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        if stem > 1:  # weights of a net without it fit, and would give other features
            self.register_buffer(STEM, torch.tensor(stem))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return (x if x.shape[-2:] == (4, 4) else F.adaptive_avg_pool2d(x, 4)).flatten(1)
