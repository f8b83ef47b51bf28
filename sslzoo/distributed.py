"""Rows, sums and batch norm over the whole batch, whatever the number of processes; on one they are identities.

Each process has an equal part of the rows of a batch, in the order of its rank, and its loss is the mean over its own
rows, or the same number everywhere; gradients are averaged over processes. So one process and many of them have the
same loss and gradients.
"""

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


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (biased) of the columns of the rows [N, D] of all processes, with gradient."""
    var, mean = torch.var_mean(x, dim=0, correction=0)
    return combined(mean, var)


def combined(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and variance of all processes' values, of each one's own; they have equally many."""
    if world() == 1:
        return mean, var
    means, variances = gather(torch.stack([mean, var])[None]).unbind(1)
    return means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, unbiased=False)


class _Normalize(torch.autograd.Function):
    """x [N, C, ...] normalised by the moments of all processes' rows; torch's kernels do what is a process's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )  # as if the moments were constants
        sums = torch.stack([dweight, dbias])
        if world() > 1:
            dist.all_reduce(sums)
        inverse = torch.rsqrt(var + ctx.eps)
        scale = weight * inverse * (x.shape[1] / (world() * x.numel()))
        slope = scale * inverse * sums[0]
        shape = [1, -1] + [1] * (x.ndim - 2)
        offset = (scale * sums[1] - slope * mean).view(shape).to(dx.dtype)
        dx = dx.sub_(offset).addcmul_(x, slope.view(shape).to(dx.dtype), value=-1)
        return dx, dweight, dbias, None, None, None


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
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            mean, var = combined(*torch.ops.aten.batch_norm_update_stats(wide, None, None, 0.0))  # not var_mean: slow
            if self.training and self.running_mean is not None:
                self.track(mean, var, world() * x.numel() // x.shape[1])
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        return _Normalize.apply(x, weight, bias, mean, var, self.eps)  # type: ignore[no-any-return]

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
