"""The processes of one run, as torchrun starts them: how they join, share what the first one knows, and fail as one."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..tools.errors import SaidElsewhere, UserError
from ..tools.files import locked
from . import launched
from .collectives import rank, world

PEER_LOST = ("closed by peer", "Connection reset", "Broken pipe", "Timed out", "remote process exited", "was aborted")
MEETING = timedelta(minutes=15)  # until all have come; nodes may be minutes apart
LONGEST = 200  # letters of what torch says
TIMEOUT = timedelta(hours=2)  # while the first process evaluates; torchrun ends the others of one that dies
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun has started in a group for the block.

    Alone, or in a group already, nothing happens. Raises `UserError` where another process is gone, or does not come.
    """
    if launched.world_size() == 1 or dist.is_initialized():
        yield
        return
    try:
        store, number, of = next(dist.rendezvous("env://", timeout=MEETING))  # type: ignore[attr-defined]
        store = dist.PrefixStore(rendezvous_prefix(store, number, of), store)  # type: ignore[attr-defined]
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=of, timeout=TIMEOUT)
    except (RuntimeError, OSError) as error:
        wait = f"{MEETING.total_seconds() / 60:g} minutes"
        said = (str(error).splitlines() or [type(error).__name__])[0][:LONGEST]
        raise UserError(f"The processes did not meet within {wait} ({said}); see what the others said.") from None
    try:
        yield
    except RuntimeError as error:
        if not is_peer_lost(error):
            raise
        raise UserError("Another process has ended or cannot be reached; see what it said, and start again.") from None
    dist.destroy_process_group()  # not after an error: the end of a group may wait for those that wait for us


def is_peer_lost(error: RuntimeError) -> bool:
    """Return whether an error says that another process is gone."""
    return world() > 1 and any(word in str(error) for word in PEER_LOST)


def rendezvous_prefix(store: Any, number: int, of: int) -> str:
    """Return a name that only these processes have, for their keys in torchrun's store.

    After a restart the store has what those before left in it. torchrun's count of restarts is no such name, since each
    node counts its own. The first process answers all that ask, those that are gone too, until all of its own have said
    that they heard it. Raises `RuntimeError` where some do not come.
    """
    name, answered = uuid4().hex, set[bytes]()
    if number > 0:
        store.set(f"asks {number}", name)
        prefix = store.get(name).decode()  # waits
        store.set(f"{prefix} {number}", "")
        return str(prefix)
    others, until = range(1, of), time.monotonic() + MEETING.total_seconds()
    while not store.check([f"{name} {other}" for other in others]):
        if time.monotonic() > until:
            raise RuntimeError("some did not come")
        asked = (store.get(f"asks {other}") for other in others if store.check([f"asks {other}"]))
        for one in {*asked} - answered:
            store.set(one.decode(), name)
            answered.add(one)
        time.sleep(0.05)
    return name


def broadcast(value: T) -> T:
    """Return the first process's value on all of them."""
    if world() == 1:
        return value
    received: list[Any] = [value]
    dist.broadcast_object_list(received, 0)
    return received[0]  # type: ignore[no-any-return]


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold a run directory in the first process for the block. Raises `UserError` where another run holds it."""
    with ExitStack() as held:
        on_all(lambda: held.enter_context(locked(run / "run.json")) if rank() == 0 else None)
        yield


def on_all(make: Callable[[], T]) -> T:
    """Return what this process makes, once all of them have made theirs.

    Where one of them raises a `UserError` all do, and the first one says it.
    """
    if world() == 1:
        return make()
    made, failure = None, None
    try:
        made = make()
    except UserError as error:
        failure = error
    for number, found in enumerate(gathered(failure)):
        if found is not None:
            raise (found if number == 0 else UserError(f"Process {number}: {found}")) if rank() == 0 else SaidElsewhere
    return made  # type: ignore[return-value]


def on_first(make: Callable[[], T]) -> T:
    """Return on all processes what the first one alone makes; its `UserError` is raised on all of them too."""
    return broadcast(on_all(lambda: make() if rank() == 0 else None))  # type: ignore[return-value]


def gathered(value: T) -> list[T]:
    """Return the values of all processes, in order."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def union(known: dict[K, V]) -> dict[K, V]:
    """Return what any of the processes knows."""
    return {key: value for one in gathered(known) for key, value in one.items()}


def all_reduce_max(number: int) -> int:
    """Return the largest of the processes' numbers."""
    if world() == 1:
        return number
    largest = torch.tensor(number)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


class LaterMax:
    """Tells the largest of the processes' numbers a call later, so that no process waits for the others.

    Alone, it is told at once.
    """

    def __init__(self) -> None:
        self.pending: tuple[dist.Work, torch.Tensor] | None = None

    def __call__(self, number: int) -> int:
        """Return the largest of the numbers of the call before, and send this call's."""
        if world() == 1:
            return number
        before, largest = self.last(), torch.tensor(number)
        work = dist.all_reduce(largest, dist.ReduceOp.MAX, async_op=True)
        self.pending = (work, largest)
        return before

    def last(self) -> int:
        """Return the largest number that was not told yet, 0 without one; waits for it."""
        if self.pending is None:
            return 0
        (work, largest), self.pending = self.pending, None
        work.wait()
        return int(largest)


def parallel(model: nn.Module, device: torch.device, unused: bool = True) -> nn.Module:
    """Return the model with gradients averaged over all processes; alone, return it as it is.

    ``unused`` says whether some step leaves parameters without a gradient, for which each step has to look then. Where
    it does not, torch puts the gradients into other buckets after the first step.
    """
    if world() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions have other words for broadcast_buffers
        return DistributedDataParallel(model, devices, broadcast_buffers=False, find_unused_parameters=unused)


def launch_ids() -> list[str]:
    """Return the names of the launch that started the processes, the same after a restart; all have to ask."""
    if world() == 1:
        return launched.launch_ids()
    return sorted({name for names in gathered(launched.launch_ids()) for name in names})
