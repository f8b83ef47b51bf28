"""Batch norm over the rows of all processes; with one process it is torch's own."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .collectives import combined_moments, world


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
        """Return x [N, C, ...] with mean 0 and variance 1 a channel; move the running statistics in training."""
        if not self.training and self.running_mean is not None:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            own = torch.ops.aten.batch_norm_update_stats(wide, None, None, 0.0)  # not var_mean: slow
            mean, var = combined_moments(*own)
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


def convert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Return the module with every batch norm in it over the rows of all processes; parameters and their names stay."""
    if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
        return SyncBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, convert_sync_batchnorm(child))
    return module
