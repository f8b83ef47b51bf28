"""Rows, sums and batch norm over the whole batch, whatever the number of processes; on one they are identities.

Each process has an equal part of the rows of a batch, in the order of its rank, and its loss is the mean over its own
rows, or the same number everywhere; gradients are averaged over processes. So one process and many of them have the
same loss and gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def world() -> int:
    """The number of processes of the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them."""
    return dist.get_rank() if world() > 1 else 0


def share() -> tuple[int, int]:
    """Which part of a batch's rows this process has: its rank, of how many."""
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
        return own(_Sum.forward(ctx, grads[0]))


def gather(x: Tensor) -> Tensor:
    """The rows [N, ...] of all processes, in rank order, with gradient."""
    return x if world() == 1 else _Gather.apply(x)


def own(x: Tensor) -> Tensor:
    """This process's rows of `gather`'s."""
    return x.chunk(world())[rank()]


def average(x: Tensor) -> Tensor:
    """The mean of x over processes, with gradient."""
    return x if world() == 1 else _Sum.apply(x) / world()


def first_row(x: Tensor) -> int:
    """Where this process's rows begin in `gather`'s result."""
    return rank() * len(x)


def part_of(x: Tensor) -> Tensor:
    """This process's part of rows that all processes have, so that none counts twice; parts may differ by a row."""
    return x[rank() :: world()]


def places(n: int) -> Tensor:
    """The places among n of what this process does: equally many on all, so that the last ones may be done twice."""
    return torch.arange(rank(), rank() + world() * -(-n // world()), world()) % n


def collected(x: Tensor, n: int) -> Tensor:
    """On the first process the rows of all `places` of n in order, on the others their own; x is on the host."""
    if world() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world())] if rank() == 0 else None
    dist.gather(x.contiguous(), parts)
    return x if parts is None else torch.stack(parts, dim=1).flatten(0, 1)[:n]


def agreed(x: Tensor) -> Tensor:
    """The first process's x on all of them: what was drawn at random, or found in an order that may differ."""
    if world() > 1:
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


def logsumexp(x: Tensor, dim: int) -> Tensor:
    """log sum exp over the rows of all processes, which lie along ``dim``; keeps the dimension."""
    if world() == 1:
        return torch.logsumexp(x, dim=dim, keepdim=True)
    most = x.detach().amax(dim=dim, keepdim=True)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return (average((x - most).exp().sum(dim=dim, keepdim=True)) * world()).log() + most


def moments(x: Tensor, dims: Sequence[int] = (0,)) -> tuple[Tensor, Tensor]:
    """Mean and variance (biased) over dimensions, the rows of all processes among them."""
    var, mean = torch.var_mean(x, dim=list(dims), correction=0)
    if world() == 1:
        return mean, var
    means, variances = gather(torch.stack([mean, var])[None]).unbind(1)
    return means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, unbiased=False)


class SyncBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes (Ioffe & Szegedy 2015), on any device; torch's own needs CUDA.

    ``drop`` and ``act`` are what timm's norms of the same name do after it.
    """

    def __init__(self, like: _BatchNorm):
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(self, name, getattr(like, name))
        self.drop, self.act = (getattr(like, name, nn.Identity()) for name in ("drop", "act"))
        self.train(like.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(self.normalized(input)))  # type: ignore[no-any-return]

    def normalized(self, x: Tensor) -> Tensor:
        """x [N, C, ...] with mean 0 and variance 1 a channel; moves the running statistics in training."""
        if not self.training and self.running_mean is not None:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        dims = [0, *range(2, x.ndim)]
        mean, var = moments(x.to(torch.promote_types(x.dtype, torch.float32)), dims)
        if self.training and self.running_mean is not None and self.running_var is not None:
            self.track(mean.detach(), var.detach(), world() * x.numel() // x.shape[1])
        scale = torch.rsqrt(var + self.eps) * (1 if self.weight is None else self.weight)
        shift = (0 if self.bias is None else self.bias) - mean * scale
        shape = [1, -1] + [1] * (x.ndim - 2)
        return torch.addcmul(shift.view(shape), x, scale.view(shape)).to(x.dtype)

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Move the running statistics by those of n values."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((var * (n / max(n - 1, 1))).to(self.running_var.dtype), momentum)


def synchronized(module: nn.Module) -> nn.Module:
    """The module with every batch norm in it over the rows of all processes; its parameters and their names stay."""
    if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
        return SyncBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, synchronized(child))
    return module
