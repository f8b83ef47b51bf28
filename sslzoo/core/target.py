"""Target copies of the online network: frozen, and moved by averaging or by snapshots instead of by gradient."""

from copy import deepcopy
from math import cos, pi

import torch
from torch import nn


def frozen_copy(network: nn.Module) -> nn.Module:
    """A copy that no gradient reaches."""
    return deepcopy(network).requires_grad_(False)


def tau_at(step: int, steps: int | None, start: float, end: float) -> float:
    """tau = end - (end - start) (cos(pi k / K) + 1) / 2: BYOL section 3.1. Constant where K is not known."""
    progress = min(step / steps, 1.0) if steps else 0.0
    return end - (end - start) * (cos(pi * progress) + 1) / 2


@torch.no_grad()
def move(copy: nn.Module, online: nn.Module, tau: float) -> None:
    """copy <- tau copy + (1 - tau) online, parameters only: BYOL eq. 1. Batch norm keeps the copy's own statistics."""
    torch._foreach_lerp_(list(copy.parameters()), [p.detach() for p in online.parameters()], 1 - tau)


@torch.no_grad()
def refresh(copy: nn.Module, online: nn.Module) -> None:
    """Make the copy equal to the online network, buffers included."""
    copy.load_state_dict(online.state_dict())
