"""Similarities and normalisers: pure functions of queries and keys [N, D], each a mean over rows."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def l2(x: Tensor) -> Tensor:
    """Rows on the unit sphere."""
    return F.normalize(x, dim=-1)


def cosine(q: Tensor, k: Tensor) -> Tensor:
    """D(p, z) = -p.z / (|p| |z|): SimSiam eq. 1; BYOL's eq. 2 is 2 + 2 D."""
    return -(l2(q) * l2(k)).sum(dim=-1).mean()


def mse(q: Tensor, k: Tensor) -> Tensor:
    """Mean squared error over rows and channels."""
    return F.mse_loss(q, k)


def cross_entropy(q: Tensor, k: Tensor) -> Tensor:
    """-softmax(z) . log softmax(p) over the channels: SimSiam section 4.5."""
    return -(F.softmax(k, dim=-1) * F.log_softmax(q, dim=-1)).sum(dim=-1).mean()


def identity(x: Tensor) -> Tensor:
    """The input."""
    return x


NORMALIZE: dict[str, Callable[[Tensor], Tensor]] = {"none": identity, "l2": l2}
SIMILARITY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine,
    "mse": mse,
    "cross_entropy": cross_entropy,
}
