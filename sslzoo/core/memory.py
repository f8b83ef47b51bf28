"""Memory of keys: the queue of the latest ones, the bank with a row a sample, and the targets that they give."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..processes import collectives
from .losses import l2


class Queue(nn.Module):
    """Is a ring buffer of the latest keys [length, dim]; starts with random unit rows (MoCo, algorithm 1).

    The pointer is a tensor, so that pushing never waits for the device; any number of rows may be pushed.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.register_buffer("rows", l2(torch.randn(length, dim)))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Return the queue as a codebook: scores [1, N, length] of x [N, dim] (ReSSL)."""
        return (x @ self.rows.T)[None]

    def nearest(self, x: Tensor) -> Tensor:
        """Return the row of largest cosine for each of x [N, dim] (NNCLR eq. 3)."""
        return self.rows[(l2(x) @ l2(self.rows).T).argmax(dim=1)]

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Overwrite the oldest rows by keys [M, dim]; of more than ``length`` the last ones stay."""
        length = len(self.rows)
        skipped = max(len(keys) - length, 0)
        keys = keys[skipped:]
        places = (self.pointer + skipped + torch.arange(len(keys), device=keys.device)) % length
        self.rows[places] = keys.to(self.rows.dtype)
        self.pointer.copy_((self.pointer + skipped + len(keys)) % length)


class Bank(nn.Module):
    """Holds a row [dim] for every sample, the running average of its keys (InstDisc section 3.2).

    Starts with random unit rows; a sample's first key replaces its own. ``unit``: averages are brought to length 1.
    """

    rows: Tensor
    seen: Tensor

    def __init__(self, samples: int, dim: int, momentum: float, unit: bool):
        super().__init__()
        self.momentum, self.unit = momentum, unit
        self.register_buffer("rows", l2(torch.randn(samples, dim)))
        self.register_buffer("seen", torch.zeros(samples, dtype=torch.bool))

    def average(self, keys: Tensor, index: Tensor) -> Tensor:
        """Return the samples' rows with the keys [N, dim] mixed in."""
        stays = self.momentum * self.seen[index, None].to(keys.dtype)
        mixed = stays * self.rows[index].to(keys.dtype) + (1 - stays) * keys
        return l2(mixed) if self.unit else mixed

    @torch.no_grad()
    def push(self, keys: Tensor, index: Tensor) -> None:
        """Move the rows of samples ``index`` [N] towards their keys [N, dim]."""
        keys, index = collectives.gather(keys), collectives.gather(index)
        self.rows[index] = self.average(keys, index).to(self.rows.dtype)
        self.seen[index] = True


class Memories(NamedTuple):
    """The queue and the bank of a model; each is there where a switch reads it."""

    queue: Queue | None
    bank: Bank | None


def view(k: Tensor, index: Tensor | None, memories: Memories, read: str) -> Tensor:
    """Return the keys k [N, dim] themselves as the targets."""
    return k


def neighbour(k: Tensor, index: Tensor | None, memories: Memories, read: str) -> Tensor:
    """Return each key's nearest row of the queue (NNCLR eq. 3); no gradient reaches it."""
    return cast(Queue, memories.queue).nearest(k).to(k.dtype)


def average(k: Tensor, index: Tensor | None, memories: Memories, read: str) -> Tensor:
    """Return the running averages of samples ``index`` [N]; no gradient reaches them.

    They are read as they were "before" these keys (InstDisc eq. 2), or "after" they are mixed in (SimSiam section 5.2).
    """
    bank, index = cast(Bank, memories.bank), cast(Tensor, index)
    return bank.rows[index].to(k.dtype) if read == "before" else bank.average(k, index)
