"""Processes that read images: how they begin, how they are waited for, and that they end."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children, context, queues
from types import FrameType, TracebackType
from typing import Any, TypeVar

import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from ..tools.errors import DEAD_READER, READERS_PATIENCE, SIGNALS, DeadReader, UserError, exhausted

T = TypeVar("T")
LOOK = 5  # seconds between two looks whether all readers are alive
NOT_SHARED = "No memory can be shared with processes that read ({}); see /dev/shm and 'ulimit', or take --workers 0."


class Loader(DataLoader[T]):
    """Is a loader that does not warn of more processes than cores: how many read is said, or chosen by `readers`."""

    def check_worker_number_rationality(self) -> None:
        """Say nothing."""


def loader(dataset: Dataset[T], workers: int, device: torch.device, **how: Any) -> DataLoader[T]:
    """Return a loader whose batches a data set makes itself, read by so many processes; for `awaited`."""
    return Loader(
        dataset,
        num_workers=workers,
        collate_fn=keep_whole,
        worker_init_fn=begin_reader,
        generator=torch.Generator(),  # what a loader draws for its own use must not move others' numbers
        timeout=LOOK if workers else 0,
        pin_memory=device.type == "cuda",
        multiprocessing_context=start_method(workers, device),
        **how,
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
    for process in active_children():
        if isinstance(process, SpawnedReader | ForkedReader):
            process.kill()


_waiting: list[bool] = []  # holds something while this process waits for its readers


def awaited(loader: DataLoader[T], stop: Callable[[], bool] = bool) -> Iterator[T]:
    """Yield a loader's items, whose timeout is ``LOOK``. Raises `UserError`; `DeadReader` if a reader has died.

    torch raises that wherever this process happens to be, also once it is ending; here it is heard of while an item is
    waited for, and at no other time. In a thread, which hears of nothing, it is seen at the next look; then, too, the
    items end where ``stop`` says so.
    """
    with _waits():
        batches = iter(loader)
    _take_over_deaths()
    while True:
        try:
            with _waits():
                item = _next(batches, stop)
        except StopIteration:
            return
        yield item


def _next(batches: Iterator[T], stop: Callable[[], bool]) -> T:
    """Return the next item, looking now and then whether all who read are alive, and whether to go on."""
    until = time.monotonic() + READERS_PATIENCE
    while True:
        if any(reader.exitcode for reader in getattr(batches, "_workers", ())):
            raise DeadReader(DEAD_READER)
        try:
            return next(batches)
        except RuntimeError as error:
            if "DataLoader timed out" not in str(error) or time.monotonic() > until:
                raise
            if stop():
                raise StopIteration from None


@contextmanager
def _waits() -> Iterator[None]:
    here = threading.current_thread() is threading.main_thread()  # which alone hears signals
    _waiting.extend([True] * here)
    try:
        yield
    finally:
        if here:
            _waiting.clear()


def _take_over_deaths() -> None:
    """Keep torch's errors for dead processes to where they are waited for."""
    torchs = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    if not callable(torchs) or torchs.__module__ != signal_handling.__name__:
        return

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            torchs(number, frame)
        except RuntimeError:
            if _waiting:
                raise

    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGCHLD, handle)


def start_method(workers: int, device: torch.device) -> context.BaseContext | None:
    """Return how readers are started: not as copies of a process that uses a GPU, which is no use to a copy."""
    if not workers:
        return None
    on_gpu = device.type != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return SpawnedReaders() if on_gpu or sys.platform != "linux" else ForkedReaders()


def begin_reader(_: int) -> None:
    """Set up a process that reads for a run: it ignores what asks it to stop, since that is the run's to say.

    What it cannot hand over it says, in place of Python, which would let the run wait. That nobody takes what it hands
    over any more is the end of the run, and nothing to say.
    """
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    queues.Queue._on_queue_feeder_error = hand_over_error  # type: ignore[attr-defined]
    sys.excepthook = unless_nobody_reads  # which `multiprocessing` calls in the thread that hands files over


def unless_nobody_reads(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error as Python does, unless it says that the other process is gone."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


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
