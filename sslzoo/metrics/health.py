"""Health of projections and codes: label-free numbers, always together, since each has a blind spot; and advice."""

from collections.abc import Mapping, Sequence
from math import log, nan

import torch
import torch.nn.functional as F
from torch import Tensor

from ..processes import collectives

ROWS = 128  # of both views; the rank depends on it


def l2(x: Tensor) -> Tensor:
    """Rows on the unit sphere."""
    return F.normalize(x, dim=-1)


def std(z: Tensor) -> float:
    """Mean deviation of the l2-normalised channels, times sqrt(d): 1 spread out, 0 collapsed (SimSiam, section 4.1)."""
    z = l2(z.float())
    return float(z.std(dim=0).mean() * z.shape[1] ** 0.5)


def rank(z: Tensor, epsilon: float = 1e-7) -> float:
    """RankMe of the l2-normalised rows, uncentred: exp of the entropy of the singular values (Garrido 2023)."""
    singular = torch.linalg.svdvals(l2(z.float()))
    p = singular / singular.sum().clamp(min=epsilon) + epsilon
    return float(torch.exp(-(p * p.log()).sum()))


def alignment(a: Tensor, b: Tensor) -> float:
    """Mean squared distance of two views' l2-normalised projections of the same images (Wang & Isola 2020)."""
    return float((l2(a.float()) - l2(b.float())).square().sum(dim=1).mean())


def uniformity(z: Tensor) -> float:
    """log mean exp(-2 |x - y|^2) over pairs of l2-normalised rows: 0 in one point, near -4 all over the sphere."""
    return float(torch.pdist(l2(z.float())).square().mul(-2).exp().mean().log())


def code_entropy(codes: Tensor) -> tuple[float, float]:
    """Entropy of a sample's code [.., N, K] (1: it says nothing), and of the mean code (0: one takes all), over ln K.

    N codes of one prototype each can reach ln N.
    """
    k = codes.shape[-1]
    p, usage = codes.float(), codes.float().mean(dim=-2)
    each, together = (torch.special.entr(x).sum(dim=-1).mean() for x in (p, usage))
    return float(each) / log(k), float(together) / log(k)


def health(projections: list[Tensor], codes: Tensor | None = None) -> dict[str, float]:
    """Label-free numbers of the batch's first rows of two views' projections [N, d], 128 in all; nan if not finite.

    "code_entropy" and "code_usage" only where there are codes [H, N, K]. All processes have to ask.
    """
    projections = projections[:2]  # the rank of fewer rows of more views would be another number
    each = -(-ROWS // len(projections))
    views = [collectives.gather(x[:each])[:each].cpu() for x in projections]
    z = torch.cat(views)[:ROWS]
    if not bool(z.isfinite().all()):
        found = dict.fromkeys(("std", "rank", "alignment", "uniformity"), nan)
    else:
        found = {
            "std": std(z), "rank": rank(z), "alignment": alignment(views[0], views[1]) if len(views) > 1 else nan,
            "uniformity": sum(map(uniformity, views)) / len(views),
        }  # fmt: skip
    if codes is not None:
        whole = collectives.gather(codes.transpose(0, -2)).transpose(0, -2)
        found["code_entropy"], found["code_usage"] = code_entropy(whole.cpu())
    return found


def average(looks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of several looks."""
    return {key: sum(look[key] for look in looks) / len(looks) for key in looks[0]}


def most(dim: int, batch_size: int) -> int:
    """The largest rank that projections of a dimension can have, of two views of a batch."""
    return min(ROWS, 2 * batch_size, dim)


def advice(numbers: Mapping[str, float], most: int) -> dict[str, str]:
    """What trips, each with a sentence that says what to try; empty where all is well. ``most`` is the largest rank."""
    found = {}
    if not numbers["std"] >= 0.2:
        found["std"] = (
            f"std x sqrt(d) is {numbers['std']:.2f}: all images have nearly one projection; lower optimizer.lr, put "
            "batch norm at the projector's output (batchnorm=default), or bring back what prevents collapse."
        )
    elif numbers["rank"] < 0.1 * most:
        found["rank"] = (
            f"Projections fill {numbers['rank']:.1f} of {most} directions while std looks well, which sees no such "
            "collapse; lower optimizer.lr, or bring back what prevents it."
        )
    if numbers.get("code_entropy", 0.0) > 0.98:
        found["code_entropy"] = (
            "Codes are all but uniform, so that the loss stands near ln K; lower epsilon or code_temperature, or "
            "raise optimizer.lr."
        )
    if numbers.get("code_usage", 1.0) < 0.3:
        found["code_usage"] = (
            "Few prototypes take all images; raise epsilon or code_temperature, take fewer prototypes, or balance them "
            "(clustering=sinkhorn)."
        )
    return found


def verdict(std: float, rank: float, most: int) -> str:
    """ "collapsed", "partial" or "healthy", from the two numbers and the largest rank; nan is collapsed."""
    if not (std >= 0.2 and rank >= 0.04 * most):
        return "collapsed"
    return "healthy" if std >= 0.5 and rank >= 0.1 * most else "partial"
