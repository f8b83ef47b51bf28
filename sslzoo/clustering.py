"""Online clustering: a codebook, and the codes that a query has to predict."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import distributed
from .losses import l2
from .schema import Clustering


class Codebook(nn.Module):
    """Prototypes [K, D]; the scores of x [N, D] are its dot products with them, normalised inside the graph."""

    def __init__(self, prototypes: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(l2(torch.randn(prototypes, dim)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ l2(self.weight).T  # NxK


def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Codes [N, K] of scores [N, K], all prototypes used alike: SwAV section 3.1, Cuturi 2013.

    In float32 at least and in the log domain: exp(scores / epsilon) overflows without l2.
    """
    log_codes = scores.to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log_codes = log_codes - distributed.logsumexp(log_codes)  # each prototype the same mass
        log_codes = log_codes - torch.logsumexp(log_codes, dim=1, keepdim=True)  # each sample one code
    return log_codes.exp()


def codes(kind: str, scores: Tensor, knobs: Clustering) -> Tensor:
    """The codes [N, K] of a kind for the keys' scores [N, K]."""
    if kind == "sinkhorn":
        return sinkhorn(scores, knobs.epsilon, knobs.iterations)
    return F.softmax(scores / knobs.code_temperature, dim=1)


def swapped(scores: Tensor, code: Tensor, temperature: float) -> Tensor:
    """Predict the key's code from the query's scores: SwAV eq. 2, mean over rows."""
    return -(code * F.log_softmax(scores / temperature, dim=1)).sum(dim=1).mean()
