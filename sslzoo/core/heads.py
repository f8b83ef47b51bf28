"""The projector and the predictors: multi-layer perceptrons with batch norm where the recipe says so."""

from itertools import pairwise

from torch import nn

from ..recipes.schema import Heads


def mlp(widths: list[int], hidden_norm: bool, output_norm: bool, output_affine: bool = True) -> nn.Sequential:
    """Return linear layers through ``widths``, with batch norm and ReLU between them and perhaps batch norm at the end.

    A linear layer has no bias where a batch norm with a bias of its own follows.
    """
    layers: list[nn.Module] = []
    for depth, (fan_in, fan_out) in enumerate(pairwise(widths), start=2):
        last = depth == len(widths)
        norm, affine = (output_norm, output_affine) if last else (hidden_norm, True)
        layers.append(nn.Linear(fan_in, fan_out, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(fan_out, affine=affine))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def projector(width: int, heads: Heads) -> nn.Sequential:
    """f's head: [N, width] to [N, dim]; SimSiam section 3 has batch norm on every layer, the output included.

    A linear head, which has no hidden layer, has that of "hidden" at its output.
    """
    widths = [width, *[heads.hidden] * (heads.layers - 1), heads.dim]
    output = heads.batchnorm in ("default", "all") or (heads.batchnorm == "hidden" and heads.layers == 1)
    return mlp(widths, heads.batchnorm != "none", output, heads.output_affine)


def no_predictor(heads: Heads) -> nn.Module:
    """Return the identity."""
    return nn.Identity()


def linear_predictor(heads: Heads) -> nn.Module:
    """Return one layer: [N, dim] to [N, dim]."""
    return nn.Linear(heads.dim, heads.dim)


def mlp_predictor(heads: Heads) -> nn.Module:
    """Return h of SimSiam's section 3: [N, dim] to [N, dim] through one hidden layer."""
    return mlp([heads.dim, heads.predictor_hidden, heads.dim], heads.batchnorm != "none", heads.batchnorm == "all")


def fixed_predictor(heads: Heads) -> nn.Module:
    """Return the same as it was drawn, never trained (SimSiam, Table 1b)."""
    return mlp_predictor(heads).requires_grad_(False)
