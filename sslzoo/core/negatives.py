"""Negatives: tell the positive apart from other samples' rows (InfoNCE, van den Oord et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..processes import collectives
from ..recipes.schema import Negatives
from .memory import Bank, Queue


def repel(
    kind: str,
    q: Tensor,
    k: Tensor,
    own: Tensor | None,
    index: Tensor | None,
    memory: Queue | Bank | None,
    temperature: float,
    knobs: Negatives,
) -> Tensor:
    """The loss of queries q against targets k, both [N, D], and negatives of a kind."""
    if kind == "batch":
        anchor, rows = (q, k) if knobs.anchor == "query" else (k, q)
        return against_batch(anchor, rows, own, temperature, knobs)
    if isinstance(memory, Bank) and index is not None:
        return against_bank(q, k, memory.rows, index, temperature, knobs)
    assert isinstance(memory, Queue)
    return against_queue(q, k, memory.rows, temperature, knobs)


def info_nce(positive: Tensor, others: Tensor, temperature: float, knobs: Negatives) -> Tensor:
    """-positive/T + log sum exp(others/T), the mean over rows; positive [N], others [N, M], -inf for left out ones.

    The positive is one of those in the sum, unless ``positive_in_denominator`` is off (DCL, Yeh et al. 2022, eq. 5).
    """
    if knobs.positive_in_denominator:
        others = torch.cat([positive[:, None], others], dim=1)
    return (torch.logsumexp(others / temperature, dim=1) - positive / temperature).mean()


def against_batch(anchor: Tensor, rows: Tensor, own: Tensor | None, temperature: float, knobs: Negatives) -> Tensor:
    """Tell each anchor's own row apart from those of the batch's other samples; anchor, rows: [N, D].

    ``own`` [N, D] are the rows of the anchor's own view: with them this is SimCLR's NT-Xent (eq. 1), whose denominator
    leaves only the anchor itself out; without, MoCo v3's (eq. 1). Anchors are queries and rows are keys, or the other
    way round (NNCLR eq. 2, whose anchors are neighbours).
    """
    positive = (anchor * rows).sum(dim=1)
    sides = [collectives.gather(side) for side in (rows, own) if side is not None]
    start = collectives.row_offset(anchor)
    itself = torch.arange(start, start + len(anchor), device=anchor.device)
    mask = F.one_hot(itself, len(sides[0])).bool()
    others = [(anchor @ side.T).masked_fill(mask, -torch.inf) for side in sides]
    return info_nce(positive, torch.cat(others, dim=1), temperature, knobs)


def against_queue(q: Tensor, k: Tensor, rows: Tensor, temperature: float, knobs: Negatives) -> Tensor:
    """The same against the keys [K, D] of earlier batches: MoCo's eq. 1, algorithm 1."""
    return info_nce((q * k).sum(dim=1), q @ rows.T, temperature, knobs)


def against_bank(q: Tensor, k: Tensor, rows: Tensor, index: Tensor, temperature: float, knobs: Negatives) -> Tensor:
    """The same against the bank's rows [samples, D] of all other samples, or of ``bank_sample`` random ones.

    With the sample's own row as the key this is InstDisc's non-parametric softmax (eq. 2), of which its NCE is an
    approximation.
    """
    place = torch.arange(len(rows), device=q.device)
    if 0 < knobs.bank_sample < len(rows):
        place = collectives.from_first(torch.randint(len(rows), (knobs.bank_sample,), device=q.device))
        rows = rows[place]
    others = (q @ rows.T).masked_fill(place == index[:, None], -torch.inf)
    return info_nce((q * k).sum(dim=1), others, temperature, knobs)
