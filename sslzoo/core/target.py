"""Target copies of the online network: frozen, and moved by averaging or by snapshots instead of by gradient."""

from copy import deepcopy
from math import cos, pi

import torch
from torch import nn

from ..recipes import schema


def frozen_copy(network: nn.Module) -> nn.Module:
    """Return a copy that no gradient reaches, and which leaves no branch out, as DINO's teacher (main_dino.py)."""
    copy = deepcopy(network).requires_grad_(False)
    for module in copy.modules():
        if isinstance(getattr(module, "drop_prob", None), float):
            setattr(module, "drop_prob", 0.0)  # noqa: B010  # of timm's DropPath, which torch's types do not know
    return copy


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


class Momentum:
    """The copy is a moving average of the online network, moved after every step: MoCo eq. 2, BYOL eq. 1."""

    def __init__(self, knobs: schema.Target):
        self.knobs = knobs

    def after_step(self, copy: nn.Module, online: nn.Module, step: int, steps: int | None) -> None:
        """Move the copy after step number ``step`` (from 0) of ``steps``, or of nobody knows how many."""
        move(copy, online, tau_at(step, steps, self.knobs.tau, self.knobs.tau_end))

    def begin_epoch(self, copy: nn.Module, online: nn.Module) -> None:
        """Do nothing: the average knows no epochs."""


class Snapshot:
    """The copy is the online network as it was, refreshed every so many steps or at each epoch's start.

    A copy that is refreshed every k steps is the cached target of SimSiam's k-step alternation (section 5.2).
    """

    def __init__(self, knobs: schema.Target):
        self.every = knobs.every

    def after_step(self, copy: nn.Module, online: nn.Module, step: int, steps: int | None) -> None:
        """Refresh the copy where step number ``step`` (from 0) ends so many."""
        if isinstance(self.every, int) and (step + 1) % self.every == 0:
            refresh(copy, online)

    def begin_epoch(self, copy: nn.Module, online: nn.Module) -> None:
        """Refresh the copy where it is to hold for an epoch."""
        if self.every == "epoch":
            refresh(copy, online)
