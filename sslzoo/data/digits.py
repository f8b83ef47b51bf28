"""The embedded data set: scikit-learn's handwritten digits, each at a random place, size, angle and in two colours.

A method has to learn shape here: place and colours say nothing about the digit. The glyphs of the two splits differ.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 32
DRAWINGS = 4  # of each glyph
TEST_GLYPHS = 360  # of 1,797
SEED = 20201120  # of the drawings and of the split; the data set is the same for everyone
CHUNK = 1024


@cache
def load() -> dict[str, Tensor]:
    """Return images uint8 [N, 3, 32, 32], labels and glyph numbers [N] of "train" and "test" (5,748, 1,440).

    The tensors are shared by all that ask, and are not to be written to.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    glyphs = torch.from_numpy(source.images).float()[:, None] / 16  # [1797, 1, 8, 8]
    labels = torch.from_numpy(source.target).long()
    generator = torch.Generator().manual_seed(SEED)
    shuffled = torch.randperm(len(glyphs), generator=generator)
    found: dict[str, Tensor] = {}
    for split, chosen in (("test", shuffled[:TEST_GLYPHS]), ("train", shuffled[TEST_GLYPHS:])):
        chosen = chosen.repeat(DRAWINGS)
        images = torch.cat([draw(glyphs[part], generator) for part in torch.split(chosen, CHUNK)])
        found |= {f"{split}_images": images, f"{split}_labels": labels[chosen], f"{split}_groups": chosen}
    return found


def draw(glyphs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw glyphs [N, 1, 8, 8] in [0, 1] on coloured canvases; return uint8 [N, 3, 32, 32]."""
    n = len(glyphs)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    width = uniform(15, 24) / SIZE  # of the glyph, in parts of the canvas
    angle = uniform(-15, 15) * math.pi / 180
    free = 1 - width
    x, y = (2 * uniform(0, 1) - 1) * free, (2 * uniform(0, 1) - 1) * free  # of its centre, in [-1, 1]
    cos, sin = angle.cos() / width, angle.sin() / width
    matrix = torch.stack([cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y], dim=1).reshape(n, 2, 3)
    grid = F.affine_grid(matrix, [n, 1, SIZE, SIZE], align_corners=False)
    ink = F.grid_sample(glyphs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    paper, pen = uniform(0, 0.5, 3), uniform(0.5, 1, 3)  # chalk on a board: every channel of the pen is lighter
    images = paper[:, :, None, None] * (1 - ink) + pen[:, :, None, None] * ink
    return (images * 255).round().to(torch.uint8)
