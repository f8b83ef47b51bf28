"""Negatives: tell the positive key apart from other samples' keys (InfoNCE, van den Oord et al. 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import distributed


def against_batch(q: Tensor, k: Tensor, own: Tensor | None, temperature: float) -> Tensor:
    """-q.k/T + log sum exp(q.a/T), where a runs over the batch's keys, the positive among them.

    q, k: [N, D]. ``own`` [N, D] are the keys of the query's own view: with them this is SimCLR's NT-Xent (eq. 1), whose
    denominator leaves only the query itself out; without, MoCo v3's (eq. 1).
    """
    rows = distributed.gather(k)
    start = distributed.first_row(k)
    place = torch.arange(start, start + len(q), device=q.device)
    logits = q @ rows.T  # NxM
    if own is not None:
        others = q @ distributed.gather(own).T
        others = others.masked_fill(F.one_hot(place, others.shape[1]).bool(), -torch.inf)
        logits = torch.cat([logits, others], dim=1)  # Nx2M
    return F.cross_entropy(logits / temperature, place)


def against_queue(q: Tensor, k: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """The same against the keys [K, D] of earlier batches: MoCo's eq. 1, algorithm 1."""
    positive = (q * k).sum(dim=1, keepdim=True)  # Nx1
    logits = torch.cat([positive, q @ rows.T], dim=1)  # Nx(1+K)
    return F.cross_entropy(logits / temperature, logits.new_zeros(len(q), dtype=torch.long))
