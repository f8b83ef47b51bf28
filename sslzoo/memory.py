"""Memory of keys: the queue of the latest ones."""

import torch
from torch import Tensor, nn

from .losses import l2


class Queue(nn.Module):
    """A ring buffer of the latest keys [length, dim]; starts with random unit rows (MoCo, algorithm 1).

    The pointer is a tensor, so that pushing never waits for the device; any number of rows may be pushed.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.register_buffer("rows", l2(torch.randn(length, dim)))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Overwrite the oldest rows by keys [M, dim]; of more than ``length`` the last ones stay."""
        length = len(self.rows)
        skipped = max(len(keys) - length, 0)
        keys = keys[skipped:]
        places = (self.pointer + skipped + torch.arange(len(keys), device=keys.device)) % length
        self.rows[places] = keys.to(self.rows.dtype)
        self.pointer.copy_((self.pointer + skipped + len(keys)) % length)
