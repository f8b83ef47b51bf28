"""Health of projections: two numbers, always together, since each has a blind spot."""

from math import nan

import torch
from torch import Tensor

from .losses import l2

ROWS = 128  # of both views; the rank depends on it


def std(z: Tensor) -> float:
    """Mean deviation of the l2-normalised channels, times sqrt(d): 1 spread out, 0 collapsed (SimSiam, section 4.1)."""
    z = l2(z.float())
    return float(z.std(dim=0).mean() * z.shape[1] ** 0.5)


def rank(z: Tensor, epsilon: float = 1e-7) -> float:
    """RankMe of the l2-normalised rows, uncentred: exp of the entropy of the singular values (Garrido 2023)."""
    singular = torch.linalg.svdvals(l2(z.float()))
    p = singular / singular.sum().clamp(min=epsilon) + epsilon
    return float(torch.exp(-(p * p.log()).sum()))


def health(projections: list[Tensor]) -> tuple[float, float]:
    """(std x sqrt(d), rank) of the first rows of each view's projections [N, d], 128 rows in all; nan if not finite."""
    each = -(-ROWS // len(projections))
    z = torch.cat([x[:each] for x in projections])[:ROWS].cpu()
    return (std(z), rank(z)) if bool(z.isfinite().all()) else (nan, nan)


def verdict(std: float, rank: float, dim: int) -> str:
    """ "collapsed", "partial" or "healthy", from the two numbers of projections of this dimension; nan is collapsed."""
    most = min(ROWS, dim)
    if not (std >= 0.2 and rank >= 0.04 * most):
        return "collapsed"
    return "healthy" if std >= 0.5 and rank >= 0.1 * most else "partial"
