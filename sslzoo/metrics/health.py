"""Health of projections and codes: label-free numbers, always together, since each has a blind spot; and advice."""

from collections.abc import Mapping, Sequence
from math import log, nan

import torch
import torch.nn.functional as F
from torch import Tensor

from ..processes import collectives

ROWS = 128  # of both views; the rank depends on it


def l2(x: Tensor) -> Tensor:
    """Return rows on the unit sphere."""
    return F.normalize(x, dim=-1)


def std(z: Tensor) -> float:
    """Return the mean deviation of the l2-normalised channels, times sqrt(d): 1 spread out, 0 collapsed.

    SimSiam, section 4.1.
    """
    z = l2(z.float())
    return float(z.std(dim=0).mean() * z.shape[1] ** 0.5)


def rank(z: Tensor, epsilon: float = 1e-7) -> float:
    """Return RankMe of the l2-normalised rows, uncentred: exp of the singular values' entropy (Garrido 2023)."""
    singular = torch.linalg.svdvals(l2(z.float()))
    p = singular / singular.sum().clamp(min=epsilon) + epsilon
    return float(torch.exp(-(p * p.log()).sum()))


def alignment(a: Tensor, b: Tensor) -> float:
    """Return the mean squared distance of two views' l2-normalised projections of the same images.

    Wang & Isola 2020.
    """
    return float((l2(a.float()) - l2(b.float())).square().sum(dim=1).mean())


def uniformity(z: Tensor) -> float:
    """Return log mean exp(-2 |x - y|^2) over pairs of l2-normalised rows.

    It is 0 where all rows are one point, and near -4 where they are all over the sphere.
    """
    return float(torch.pdist(l2(z.float())).square().mul(-2).exp().mean().log())


def code_entropy(codes: Tensor) -> tuple[float, float]:
    """Return the entropy of a sample's code [.., N, K], and that of the mean code, both over ln K.

    Where the first is 1 a code says nothing; where the second is 0 one prototype takes all. N codes of one prototype
    each can reach ln N.
    """
    k = codes.shape[-1]
    p, usage = codes.float(), codes.float().mean(dim=-2)
    each, together = (torch.special.entr(x).sum(dim=-1).mean() for x in (p, usage))
    return float(each) / log(k), float(together) / log(k)


def health(projections: list[Tensor], codes: Tensor | None = None) -> dict[str, float]:
    """Return label-free numbers of the batch's first rows of two views' projections [N, d], 128 in all.

    They are nan where a projection is not finite. "code_entropy" and "code_usage" are there only where there are codes
    [H, N, K]. All processes have to call this together.
    """
    projections = projections[:2]  # the rank of fewer rows of more views would be another number
    each = -(-ROWS // len(projections))
    views = [collectives.gather(x[:each])[:each].cpu() for x in projections]
    z = torch.cat(views)[:ROWS]
    if not bool(z.isfinite().all()):
        numbers = dict.fromkeys(("std", "rank", "alignment", "uniformity"), nan)
    else:
        numbers = {
            "std": std(z), "rank": rank(z), "alignment": alignment(views[0], views[1]) if len(views) > 1 else nan,
            "uniformity": sum(map(uniformity, views)) / len(views),
        }  # fmt: skip
    if codes is not None:
        whole = collectives.gather(codes.transpose(0, -2)).transpose(0, -2)
        numbers["code_entropy"], numbers["code_usage"] = code_entropy(whole.cpu())
    return numbers


def average(batches: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number over several batches."""
    return {key: sum(numbers[key] for numbers in batches) / len(batches) for key in batches[0]}


def largest_rank(dim: int, batch_size: int) -> int:
    """Return the largest rank that projections of a dimension can have, of two views of a batch."""
    return min(ROWS, 2 * batch_size, dim)


def advice(numbers: Mapping[str, float], largest: int) -> dict[str, str]:
    """Return the names of the numbers that are out of bounds, each with a sentence that says what to try.

    ``largest`` is the largest rank that the projections can have.
    """
    sentences = {}
    if not numbers["std"] >= 0.2:
        sentences["std"] = (
            f"std x sqrt(d) is {numbers['std']:.2f}: all images have nearly one projection; lower optimizer.lr, put "
            "batch norm at the projector's output (batchnorm=default), or bring back what prevents collapse."
        )
    elif numbers["rank"] < 0.1 * largest:
        sentences["rank"] = (
            f"Projections fill {numbers['rank']:.1f} of {largest} directions while std looks well, which sees no such "
            "collapse; lower optimizer.lr, or bring back what prevents it."
        )
    if numbers.get("code_entropy", 0.0) > 0.98:
        sentences["code_entropy"] = (
            "Codes are all but uniform, so that the loss stands near ln K; lower epsilon or code_temperature, or "
            "raise optimizer.lr."
        )
    if numbers.get("code_usage", 1.0) < 0.3:
        sentences["code_usage"] = (
            "Few prototypes take all images; raise epsilon or code_temperature, take fewer prototypes, or balance them "
            "(clustering=sinkhorn)."
        )
    return sentences


def verdict(std: float, rank: float, largest: int) -> str:
    """Return "collapsed", "partial" or "healthy", from the two numbers and the largest rank; nan is collapsed."""
    if not (std >= 0.2 and rank >= 0.04 * largest):
        return "collapsed"
    return "healthy" if std >= 0.5 and rank >= 0.1 * largest else "partial"
