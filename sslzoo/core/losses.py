"""Similarities, normalisers and regularizers: pure functions of rows [N, D]; similarities are means over rows."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..processes import collectives
from ..recipes.recipe import Recipe
from ..recipes.rules import too_few_to_whiten
from ..recipes.schema import Loss, Normalize
from ..tools.errors import UserError

VARIANCE_EPSILON = 1e-4  # VICReg, official code
NORM_EPSILON = 1e-5  # batch norm's
Pairs = Sequence[tuple[Tensor, Tensor]]  # a query and its target, both [N, dim]

KNOTS, LAST_KNOT = 17, 3.0  # LeJEPA's quadrature of t, doubled for the negative half


# ---- similarities ----------------------------------------------------------------------------------------------------


def cosine(q: Tensor, k: Tensor) -> Tensor:
    """D(p, z) = -p.z / (|p| |z|): SimSiam eq. 1; BYOL's eq. 2 is 2 + 2 D."""
    return -(l2(q) * l2(k)).sum(dim=-1).mean()


def mse(q: Tensor, k: Tensor) -> Tensor:
    """Return the mean squared error over rows and channels."""
    return F.mse_loss(q, k)


def cross_entropy(q: Tensor, k: Tensor) -> Tensor:
    """Return -softmax(z) . log softmax(p) over the channels: SimSiam section 4.5."""
    return -(F.softmax(k, dim=-1) * F.log_softmax(q, dim=-1)).sum(dim=-1).mean()


def correlation(q: Tensor, k: Tensor) -> Tensor:
    """Return sum_i (1 - C_ii)^2, C the cross-correlation of normalised rows: Barlow Twins eq. 1, its first term."""
    return (1 - cross_correlation(q, k).diagonal()).square().sum()


def cross_correlation(q: Tensor, k: Tensor) -> Tensor:
    """C [D, D] over the whole batch: Barlow Twins eq. 2 where the columns are standardized."""
    return collectives.average(q.T @ k / len(q))


# ---- normalisers -----------------------------------------------------------------------------------------------------


def identity(x: Tensor, knobs: Normalize | None = None) -> Tensor:
    """Return the input."""
    return x


def l2(x: Tensor, knobs: Normalize | None = None) -> Tensor:
    """Return the rows put on the unit sphere."""
    return F.normalize(x, dim=-1)


def standardize(x: Tensor, knobs: Normalize | None = None) -> Tensor:
    """Return columns of mean 0 and variance 1 over the whole batch, as batch norm without scale and shift."""
    mean, var = collectives.moments(x)
    return (x - mean) / (var + NORM_EPSILON).sqrt()


def whiten(x: Tensor, knobs: Normalize, order: Tensor | None = None) -> Tensor:
    """Return columns of mean 0 and unit covariance over groups of rows of all processes, by Cholesky: W-MSE section 3.

    The rows of a batch are in random order, so that consecutive ones are the paper's random sub-batches; both views
    have the same. ``order`` [N of all processes] is another order in which they follow one another; what is returned
    keeps x's. Raises `UserError` where a group has no more rows than columns.
    """
    rows = collectives.gather(x)
    rows = rows if order is None else rows[order]
    groups = torch.tensor_split(rows, max(1, len(rows) // knobs.whiten_size))
    whitened = torch.cat([_whitened(group, knobs.whiten_epsilon) for group in groups])
    return collectives.own_rows(whitened if order is None else whitened[order.argsort()])


def normalizers(normalize: Callable[..., Tensor], recipe: Recipe, x: Tensor) -> list[Callable[..., Tensor]]:
    """Return the last map of rows like x [N, ...] once for each partition of a batch whose losses are averaged.

    The last one is of the batch's own order, which is random already; the others are drawn, the same in all processes.
    """
    again = recipe.normalize.w_iter - 1 if recipe.reads("normalize.w_iter") else 0
    rows = collectives.world() * len(x)
    orders = [collectives.from_first(torch.randperm(rows, device=x.device)) for _ in range(again)]
    return [*(partial(normalize, order=order) for order in orders), normalize]


def _whitened(x: Tensor, epsilon: float) -> Tensor:
    n, d = x.shape
    if n <= d:
        raise UserError(too_few_to_whiten(n, d))
    centred = x - x.mean(dim=0)
    covariance = (1 - epsilon) * centred.T @ centred / (n - 1) + epsilon * torch.eye(d, dtype=x.dtype, device=x.device)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    factor = torch.where(failed > 0, torch.nan, factor)  # a loss that is told to be not finite, without a look here
    whitened: Tensor = torch.linalg.solve_triangular(factor, centred.T, upper=False).T
    return whitened


# ---- regularizers ----------------------------------------------------------------------------------------------------


def variance(views: Sequence[Tensor], pairs: Pairs, knobs: Loss) -> Tensor:
    """Return each view's deviations held above 1, and its covariances near 0: VICReg eq. 1-4, the mean over views.

    The mean over channels of max(0, 1 - deviation), and ``covariance`` times the sum of squared covariances over d.
    The official loss halves the first, so that it is the mean over views too, and sums the second over views
    (solo-learn halves neither): its 25 and 1 are ``regularizer_weight`` 25 and ``covariance`` 2 / 25.
    """
    terms = []
    for z in views:
        (mean, var), (n, d) = collectives.moments(z), z.shape
        unbiased = collectives.world() * n / (collectives.world() * n - 1)
        spread = F.relu(1 - (var * unbiased + VARIANCE_EPSILON).sqrt()).mean()
        centred = z - mean
        covariance = collectives.average(centred.T @ centred / n) * unbiased
        terms.append(spread + knobs.covariance * off_diagonal(covariance) / d)
    return torch.stack(terms).mean()


def decorrelation(views: Sequence[Tensor], pairs: Pairs, knobs: Loss) -> Tensor:
    """Return sum over i != j of C_ij^2, the mean over pairs: Barlow Twins eq. 1, its second term."""
    return torch.stack([off_diagonal(cross_correlation(q, k)) for q, k in pairs]).mean()


def off_diagonal(c: Tensor) -> Tensor:
    """The sum of squares of what is not on the diagonal."""
    return c.square().sum() - c.diagonal().square().sum()


def gaussian(views: Sequence[Tensor], pairs: Pairs, knobs: Loss) -> Tensor:
    """SIGReg: how far random projections of each view are from a standard normal (LeJEPA, Epps-Pulley's statistic).

    N int |phi(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt, phi the empirical characteristic function along a direction; the
    mean over views and over ``slices`` directions, which are drawn anew in every step.
    """
    z = views[0]
    drawn = collectives.from_first(torch.randn(z.shape[1], knobs.slices, dtype=z.dtype, device=z.device))
    return torch.stack([epps_pulley(z @ F.normalize(drawn, dim=0)) for z in views]).mean()


def epps_pulley(x: Tensor) -> Tensor:
    """Return the statistic of columns [N, S] over the whole batch, its mean over them."""
    t = torch.linspace(0, LAST_KNOT, KNOTS, dtype=x.dtype, device=x.device)
    normal = torch.exp(-t.square() / 2)
    weights = torch.full_like(t, 2 * LAST_KNOT / (KNOTS - 1))
    weights[:1] /= 2
    weights[-1:] /= 2
    angles = x[:, :, None] * t
    real, imaginary = collectives.average(torch.stack([angles.cos().mean(dim=0), angles.sin().mean(dim=0)]))  # SxT
    error = (real - normal).square() + imaginary.square()
    statistic: Tensor = collectives.world() * len(x) * (error @ (weights * normal)).mean()
    return statistic
