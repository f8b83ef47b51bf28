"""Colour histograms: what the colours of an image alone say, wherever in it they are."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

BINS = 8  # of red, of green and of blue
SIDE = 64  # px of a side of which the colours are counted, at most


class Colours(nn.Module):
    """Is an encoder without weights: images [N, 3, H, W], uint8, give colour histograms [N, 512].

    A histogram is joint: red, green and blue have eight equal ranges each, and each of the 512 combinations has its
    part of the pixels, of larger images of every n-th one. The root is taken of it, so that the cosine of two rows is
    the Bhattacharyya coefficient of the two distributions of colours (1 for equal ones, 0 where no colour is shared):
    the distance that goes with it, Hellinger's, weighs a change from 1% to 2% of the pixels more than one from 50% to
    51%, so that a plain background does not hide what lies on it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the roots of the histograms, float32, whose rows have length 1."""
        step = -(-max(x.shape[-2:]) // SIDE)
        red, green, blue = (x[:, :, ::step, ::step].to(torch.int32) // (256 // BINS)).flatten(2).unbind(1)
        places = (red * BINS + green) * BINS + blue
        rows = torch.arange(len(x), dtype=torch.int32, device=x.device)[:, None] * BINS**3
        counts = torch.bincount((rows + places).flatten(), minlength=len(x) * BINS**3).view(len(x), BINS**3)
        return (counts.float() / max(places.shape[1], 1)).sqrt()

    def extra_repr(self) -> str:
        """Say what tells these features from others."""
        return f"{BINS} bins of at most {SIDE} px"


def gray(rows: npt.NDArray[np.float32]) -> bool:
    """Return whether histograms [N, 512] know no colours: red, green and blue of each pixel are in one range."""
    diagonal = np.arange(BINS) * (BINS * BINS + BINS + 1)
    return not np.delete(rows, diagonal, axis=1).any()
