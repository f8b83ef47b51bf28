"""Streams: batches of images in files, read by worker processes that stay for all epochs."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import active_children, context, queues
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from ..tools.errors import READERS_PATIENCE, SIGNALS, UserError, exhausted, from_workers
from .readers import ReadBatch, Reader, Request

T = TypeVar("T")
NOT_SHARED = "No memory can be shared with processes that read ({}); see /dev/shm and 'ulimit', or take --workers 0."


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
            worker_init_fn=begin_reader,
            persistent_workers=self.workers > 0,
            generator=Generator(),  # what a loader draws for its own use must not move the run's numbers
            timeout=READERS_PATIENCE if self.workers else 0,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=start_method(self.workers, self.device),
        )


class SpawnedReader(context.SpawnProcess):
    """Is a process that reads, which heeds no signal but the last one."""

    terminate = context.SpawnProcess.kill


class SpawnedReaders(context.SpawnContext):
    """Starts processes that read, afresh."""

    Process = SpawnedReader


class ForkedReader(context.ForkProcess):
    """Is a process that reads, which heeds no signal but the last one."""

    terminate = context.ForkProcess.kill


class ForkedReaders(context.ForkContext):
    """Starts processes that read, as copies of this one."""

    Process = ForkedReader


@atexit.register
def end_readers() -> None:
    """End the processes that read, which Python would else wait for without an end."""
    found = [process for process in active_children() if isinstance(process, SpawnedReader | ForkedReader)]
    if found and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each that ends
    for process in found:
        process.kill()


def start_method(workers: int, device: torch.device) -> context.BaseContext | None:
    """Return how readers are started: not as copies of a process that uses a GPU, which is no use to a copy."""
    if not workers:
        return None
    on_gpu = device.type != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return SpawnedReaders() if on_gpu or sys.platform != "linux" else ForkedReaders()


def begin_reader(_: int) -> None:
    """Set up a process that reads for a run: it ignores what asks it to stop, since that is the run's to say.

    What it cannot hand over it says, in place of Python, which would let the run wait.
    """
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    queues.Queue._on_queue_feeder_error = hand_over_error  # type: ignore[attr-defined]


def hand_over_error(queue: "queues.Queue[Any]", error: Exception, item: tuple[Any, Any]) -> None:
    """Hand over, in place of a batch that cannot be, why not."""
    number, content = item
    if isinstance(content, ExceptionWrapper):  # not even that: the run sees that this process has died
        os._exit(1)
    why = exhausted(error) or NOT_SHARED.format(str(error).rpartition(": ")[2].partition(" (")[0])
    instead = ExceptionWrapper((UserError, UserError(why), None), "in a reader")  # type: ignore[no-untyped-call]
    queue.put((number, instead))


def keep_whole(batch: T) -> T:
    """Return a batch as its data set made it."""
    return batch
