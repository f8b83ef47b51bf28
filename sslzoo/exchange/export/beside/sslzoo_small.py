"""The small net of sslzoo as a model of timm's: ``import sslzoo_small``, then ``timm.create_model`` knows it.

This file needs torch and timm alone, and lies beside the weights that it is for.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class SslzooSmall(nn.Module):
    """Four convolutions with batch norm, widths 16 to 128; its features [N, 2048] are the 4x4 map, flattened.

    ``stem_stride`` is the first convolution's.
    """

    def __init__(self, num_classes: int = 0, in_chans: int = 3, stem_stride: int = 1, **_: Any) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.head_hidden_size = num_classes, 2048, 2048
        layers: list[nn.Module] = []
        for fan_in, fan_out, stride in ((in_chans, 16, stem_stride), (16, 32, 2), (32, 64, 2), (64, 128, 2)):
            kernel = max(3, 2 * stride - 1)
            convolution = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(fan_out), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        if stem_stride > 1:
            self.register_buffer("stem_stride", torch.tensor(stem_stride))
        self.head: nn.Module = nn.Linear(2048, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Begin with a new last layer, or none."""
        self.num_classes = num_classes
        self.head = nn.Linear(2048, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map [N, 128, H, W]."""
        found: Tensor = self.layers(x)
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return features [N, 2048] of the map, or logits where there are classes."""
        x = (x if x.shape[-2:] == (4, 4) else F.adaptive_avg_pool2d(x, 4)).flatten(1)
        found: Tensor = x if pre_logits else self.head(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


default_cfgs = generate_default_cfgs(
    {
        "sslzoo_small": {
            "input_size": (3, 32, 32), "num_classes": 0, "interpolation": "bilinear", "crop_pct": 1.0,
            "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "first_conv": "layers.0", "classifier": "head",
        }
    }
)  # fmt: skip


@register_model  # type: ignore[untyped-decorator]
def sslzoo_small(pretrained: bool = False, **kwargs: Any) -> SslzooSmall:
    """Return the net."""
    made: SslzooSmall = build_model_with_cfg(SslzooSmall, "sslzoo_small", pretrained, **kwargs)
    return made
