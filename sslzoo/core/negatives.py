"""Negatives: tell the positive apart from other samples' rows (InfoNCE, van den Oord et al. 2018)."""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ..processes import collectives
from ..recipes.schema import Negatives
from .memory import Bank, Queue


@dataclass(frozen=True)
class Others:
    """Says where other samples' rows may come from, beside the batch itself.

    ``own`` [N, dim] are the rows of the anchor's own view; ``index`` [N] the samples' places in the data; the queue and
    the bank are there where a switch reads one.
    """

    own: Tensor | None = None
    index: Tensor | None = None
    queue: Queue | None = None
    bank: Bank | None = None


def info_nce(positive: Tensor, others: Tensor, temperature: float, knobs: Negatives) -> Tensor:
    """Return the mean of -positive/T + log sum exp(others/T) over rows; positive [N], others [N, M], -inf if left out.

    The positive is one of those in the sum, unless ``positive_in_denominator`` is off (DCL, Yeh et al. 2022, eq. 5).
    """
    if knobs.positive_in_denominator:
        others = torch.cat([positive[:, None], others], dim=1)
    return (torch.logsumexp(others / temperature, dim=1) - positive / temperature).mean()


def against_batch(q: Tensor, k: Tensor, others: Others, temperature: float, knobs: Negatives) -> Tensor:
    """Tell each anchor's own row apart from those of the batch's other samples; queries q and keys k are [N, dim].

    With the rows of the anchor's own view this is SimCLR's NT-Xent (eq. 1), whose denominator leaves only the anchor
    itself out; without, MoCo v3's (eq. 1). Anchors are queries and rows are keys, or the other way round (NNCLR eq. 2,
    whose anchors are neighbours).
    """
    anchor, rows = (q, k) if knobs.anchor == "query" else (k, q)
    positive = (anchor * rows).sum(dim=1)
    sides = [collectives.gather(side) for side in (rows, others.own) if side is not None]
    start = collectives.row_offset(anchor)
    itself = torch.arange(start, start + len(anchor), device=anchor.device)
    mask = F.one_hot(itself, len(sides[0])).bool()
    negatives = [(anchor @ side.T).masked_fill(mask, -torch.inf) for side in sides]
    return info_nce(positive, torch.cat(negatives, dim=1), temperature, knobs)


def against_queue(q: Tensor, k: Tensor, others: Others, temperature: float, knobs: Negatives) -> Tensor:
    """Tell each query's key apart from the queue's keys [K, dim] of earlier batches: MoCo's eq. 1, algorithm 1."""
    rows = cast(Queue, others.queue).rows
    return info_nce((q * k).sum(dim=1), q @ rows.T, temperature, knobs)


def against_bank(q: Tensor, k: Tensor, others: Others, temperature: float, knobs: Negatives) -> Tensor:
    """Tell each query's key apart from the bank's rows of all other samples, or of ``bank_sample`` random ones.

    With the sample's own row as the key this is InstDisc's non-parametric softmax (eq. 2), of which its NCE is an
    approximation.
    """
    rows, index = cast(Bank, others.bank).rows, cast(Tensor, others.index)
    place = torch.arange(len(rows), device=q.device)
    if 0 < knobs.bank_sample < len(rows):
        place = collectives.from_first(torch.randint(len(rows), (knobs.bank_sample,), device=q.device))
        rows = rows[place]
    similar = (q @ rows.T).masked_fill(place == index[:, None], -torch.inf)
    return info_nce((q * k).sum(dim=1), similar, temperature, knobs)
