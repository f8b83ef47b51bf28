"""Streams: batches of images in files, read by worker processes that stay for all epochs."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..tools.errors import from_workers
from .loading import awaited, loader
from .readers import ReadBatch, Reader, Request


class Stream:
    """A stream gives an epoch's batches of images; its loader's processes are started once."""

    def __init__(self, reader: Reader, workers: int, device: torch.device):
        self.reader, self.workers, self.device = reader, workers, device
        self.batches: list[list[Request]] = []  # of the epoch that comes next, as a loader asks for them
        self.loader: DataLoader[ReadBatch] | None = None

    def epoch(self, epoch: int, batches: Sequence[Tensor], stop: Callable[[], bool] = bool) -> Iterator[ReadBatch]:
        """Yield the images of batches of places. Raises `UserError`; `DeadReader` if a process that reads has died.

        Where ``stop`` says so, a batch that does not come is not waited for.
        """
        self.batches[:] = [[(epoch, place) for place in batch.tolist()] for batch in batches]
        kept, self.loader = self.loader or self.start(), None  # one that is left halfway is not used again
        yield from from_workers(awaited(kept, stop))
        self.loader = kept

    def start(self) -> DataLoader[ReadBatch]:
        """Return a loader whose processes stay."""
        how = {"batch_sampler": self.batches, "persistent_workers": self.workers > 0}
        return loader(self.reader, self.workers, self.device, **how)
