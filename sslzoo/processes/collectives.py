"""Rows, sums and batch norm over the whole batch, whatever the number of processes; on one they are identities.

Each process has an equal part of the rows of a batch, in the order of its rank, and its loss is the mean over its own
rows, or the same number everywhere; gradients are averaged over processes. So one process and many of them have the
same loss and gradients.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone: list[bool] = []  # holds something in a block of `alone`


@contextmanager
def alone() -> Iterator[None]:
    """Let this process do what is in the block as if there were no others, who wait for it elsewhere."""
    _alone.append(True)
    try:
        yield
    finally:
        _alone.pop()


def world() -> int:
    """Return the number of processes of the run."""
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number among them."""
    return dist.get_rank() if world() > 1 else 0


def share() -> tuple[int, int]:
    """Return which part of a batch's rows this process has: its rank, of how many."""
    return rank(), world()


class _Sum(torch.autograd.Function):
    """x summed over processes; each one's loss depends on it, so that their gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Sum.forward(ctx, grads[0])


class _Gather(torch.autograd.Function):
    """The rows of all processes; a row's gradient is the sum of what all of them made of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return own_rows(_Sum.forward(ctx, grads[0]))


def gather(x: Tensor) -> Tensor:
    """Return the rows [N, ...] of all processes, in rank order, with gradient."""
    return x if world() == 1 else _Gather.apply(x)


def own_rows(x: Tensor) -> Tensor:
    """Return this process's rows of `gather`'s."""
    return x.chunk(world())[rank()]


def average(x: Tensor) -> Tensor:
    """Return the mean of x over processes, with gradient."""
    return x if world() == 1 else _Sum.apply(x) / world()


def row_offset(x: Tensor) -> int:
    """Return where this process's rows begin in `gather`'s result."""
    return rank() * len(x)


def shard(x: Tensor) -> Tensor:
    """Return this process's part of rows that all processes have, so that none counts twice.

    Parts may differ by a row.
    """
    return x[rank() :: world()]


def shard_indices(n: int) -> Tensor:
    """Return which of n rows this process makes: equally many on all, so that the last ones may be made twice."""
    return torch.arange(rank(), rank() + world() * -(-n // world()), world()) % n


def gather_shards(x: Tensor, n: int) -> Tensor:
    """Return on the first process the n rows of all `shard_indices` in order, on the others their own.

    x is on the host.
    """
    if world() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world())] if rank() == 0 else None
    dist.gather(x.contiguous(), parts)
    return x if parts is None else torch.stack(parts, dim=1).flatten(0, 1)[:n]


def from_first(x: Tensor) -> Tensor:
    """Return the first process's x on all of them: what was drawn at random, or found in an order that may differ."""
    if world() > 1:
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


def logsumexp(x: Tensor, dim: int) -> Tensor:
    """Return log sum exp over the rows of all processes, which lie along ``dim``; keep the dimension."""
    if world() == 1:
        return torch.logsumexp(x, dim=dim, keepdim=True)
    largest = x.detach().amax(dim=dim, keepdim=True)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return (average((x - largest).exp().sum(dim=dim, keepdim=True)) * world()).log() + largest


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (biased) of the columns of the rows [N, D] of all processes, with gradient."""
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return combined_moments(mean, var)


def combined_moments(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of all processes' values, of each one's own; they have equally many."""
    if world() == 1:
        return mean, var
    means, variances = gather(torch.stack([mean, var])[None]).unbind(1)
    return means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, unbiased=False)
