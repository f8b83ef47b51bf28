"""The processes of one run, as torchrun starts them: joined, of one mind on errors, told what the first one knows."""

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
from .collectives import rank, world
from .launched import names, started

LOST = ("closed by peer", "Connection reset", "Broken pipe", "Timed out", "remote process exited", "was aborted")
PATIENCE = timedelta(hours=2)  # while the first process evaluates; torchrun ends the others of one that dies
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@contextmanager
def joined() -> Iterator[None]:
    """The processes that torchrun has started, joined in a group; alone, or in a group already, nothing happens."""
    if started() == 1 or dist.is_initialized():
        yield
        return
    store, number, of = next(dist.rendezvous("env://", timeout=PATIENCE))  # type: ignore[attr-defined]
    store = dist.PrefixStore(meeting(store, number, of), store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=of, timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise UserError("Another process has ended or cannot be reached; see what it said, and start again.") from None
    dist.destroy_process_group()  # not after an error: the end of a group may wait for those that wait for us


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone."""
    return world() > 1 and any(word in str(error) for word in LOST)


def meeting(store: Any, number: int, of: int) -> str:
    """A name that only these processes have: after a restart torchrun's store has what those before left in it.

    torchrun's count of restarts is no such name, since each node counts its own. The first process answers all that
    ask, those that are gone too, until all of its own have said that they heard it.
    """
    name, answered = uuid4().hex, set[bytes]()
    if number > 0:
        store.set(f"asks {number}", name)
        found = store.get(name).decode()  # waits
        store.set(f"{found} {number}", "")
        return str(found)
    others = range(1, of)
    while not store.check([f"{name} {other}" for other in others]):
        asked = (store.get(f"asks {other}") for other in others if store.check([f"asks {other}"]))
        for one in {*asked} - answered:
            store.set(one.decode(), name)
            answered.add(one)
        time.sleep(0.05)
    return name


def told(value: T) -> T:
    """The first process's value on all of them."""
    if world() == 1:
        return value
    found: list[Any] = [value]
    dist.broadcast_object_list(found, 0)
    return found[0]  # type: ignore[no-any-return]


@contextmanager
def holding(run: Path) -> Iterator[None]:
    """A run directory that the first process holds. Raises `UserError` where another run of it does."""
    with ExitStack() as held:
        together(lambda: held.enter_context(locked(run / "run.json")) if rank() == 0 else None)
        yield


def together(make: Callable[[], T]) -> T:
    """What each process makes. Where one of them raises a `UserError` all do, and the first one says it."""
    if world() == 1:
        return make()
    made, said = None, None
    try:
        made = make()
    except UserError as error:
        said = error
    errors: list[UserError | None] = [None] * world()
    dist.all_gather_object(errors, said)
    for number, found in enumerate(errors):
        if found is not None:
            raise (found if number == 0 else UserError(f"Process {number}: {found}")) if rank() == 0 else SaidElsewhere
    return made  # type: ignore[return-value]


def first(make: Callable[[], T]) -> T:
    """What the first process alone makes, on all of them; its `UserError` too."""
    return told(together(lambda: make() if rank() == 0 else None))  # type: ignore[return-value]


def pooled(known: dict[K, V]) -> dict[K, V]:
    """What any of the processes knows."""
    if world() == 1:
        return known
    found: list[dict[K, V]] = [{}] * world()
    dist.all_gather_object(found, known)
    return {key: value for one in found for key, value in one.items()}


def most(number: int) -> int:
    """The largest of the processes' numbers."""
    if world() == 1:
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients averaged over all processes; alone, as it is.

    Unused parameters are looked for since a codebook may be frozen at first, and buckets then keep their order, so that
    a resumed run adds in the same one.
    """
    if world() == 1:
        return model
    devices = [device] if device.type == "cuda" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions have other words for broadcast_buffers
        return DistributedDataParallel(model, devices, broadcast_buffers=False, find_unused_parameters=True)


def launch() -> list[str]:
    """The names of the launch that started the processes, the same after a restart; all have to ask."""
    found: list[Any] = [None] * world()
    if world() > 1:
        dist.all_gather_object(found, names())
    return sorted({name for some in found for name in some}) if world() > 1 else names()
