"""Positives: which vector stands for the other view's key as the target."""

from torch import Tensor

from .memory import Bank, Queue


def target(kind: str, k: Tensor, index: Tensor | None, queue: Queue | None, bank: Bank | None, read: str) -> Tensor:
    """The target [N, D] for keys k [N, D] of samples ``index`` [N]; those of the last two kinds have no gradient.

    "view" is the key itself; "neighbour" the nearest row of the queue (NNCLR eq. 3); "average" the sample's running
    average: as it was "before" this key (InstDisc eq. 2), or "after" it was mixed in (SimSiam section 5.2).
    """
    if kind == "neighbour" and queue is not None:
        return queue.nearest(k).to(k.dtype)
    if kind == "average" and bank is not None and index is not None:
        return bank.rows[index].to(k.dtype) if read == "before" else bank.average(k, index)
    return k
