"""Streams: batches of images in files, read by worker processes that stay for all epochs."""

import signal
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from ..tools.errors import SIGNALS, from_workers
from .readers import ReadBatch, Reader, Request

T = TypeVar("T")


class Stream:
    """A stream gives an epoch's batches of images; its loader's processes are started once."""

    def __init__(self, reader: Reader, workers: int, device: torch.device):
        self.reader, self.workers, self.device = reader, workers, device
        self.batches: list[list[Request]] = []  # of the epoch that comes next, as a loader asks for them
        self.loader: DataLoader[ReadBatch] | None = None

    def epoch(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[ReadBatch]:
        """Yield the images of batches of places. Raises `UserError`; `DeadReader` if a process that reads has died."""
        self.batches[:] = [[(epoch, place) for place in batch.tolist()] for batch in batches]
        loader, self.loader = self.loader or self.start(), None  # one that is left halfway is not used again
        yield from from_workers(loader)
        self.loader = loader

    def start(self) -> DataLoader[ReadBatch]:
        """Return a loader whose processes stay."""
        return DataLoader(
            self.reader,
            batch_sampler=self.batches,
            collate_fn=keep_whole,
            num_workers=self.workers,
            worker_init_fn=ignore_signals,
            persistent_workers=self.workers > 0,
            generator=Generator(),  # what a loader draws for its own use must not move the run's numbers
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=start_method(self.workers, self.device),
        )


def start_method(workers: int, device: torch.device) -> str | None:
    """Return how readers are started: not as copies of a process that uses a GPU, which is no use to a copy."""
    on_gpu = device.type != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return "spawn" if workers and on_gpu else None


def ignore_signals(_: int) -> None:
    """Ignore what asks a process to stop, in one that reads for a run: when to stop is the run's to say."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def keep_whole(batch: T) -> T:
    """Return a batch as its data set made it."""
    return batch
