"""What can befall a training run from outside: signals, full memory, dead helpers, other processes that are gone."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..processes import collectives
from ..processes.agree import is_peer_lost
from ..tools.errors import DEAD_READER, SIGNALS, DeadReader, UserError, no_memory

SMALLER_MODEL = "end what else uses it, or take a smaller --backbone or another --device"
PATIENCE = 1.0  # seconds in which further signals are the same one


heard: list[float] = []  # when signals came; the command line asks


class Interrupted(Exception):
    """Says that a signal stopped training, whose state is saved; the run's path is its argument."""


@contextmanager
def signals() -> Iterator[list[int]]:
    """Yield a list that a first signal fills, for the loop to stop at the end of its step.

    Alone, one that comes more than a second later is as if this were not here; of several processes each hears of the
    same stop from more than one side. A signal that is ignored, as with nohup, stays so.
    """
    caught: list[int] = []
    previous: dict[int, Any] = {}
    numbers = [int(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    heard.clear()

    def handle(number: int, _: object) -> None:
        caught.append(number)
        now = time.monotonic()
        if collectives.world() == 1 and heard and now - heard[0] > PATIENCE:
            signal.signal(number, previous[number])
            os.kill(os.getpid(), number)
        else:
            heard.append(now)  # which `cli.interrupt` takes others of the moment for, too

    try:
        previous |= {n: signal.signal(n, handle) for n in numbers}
    except ValueError:  # not the main thread: signals are not ours
        yield caught
        return
    try:
        yield caught
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


@contextmanager
def enough_memory(what: str, recovery_hint: str) -> Iterator[None]:
    """Turn memory that does not hold ``what`` into a sentence. Raises `UserError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not no_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        raise UserError(f"Memory does not hold {what}; {recovery_hint}.") from None


@contextmanager
def guarded(run: Path, batch_size: int, try_batch: Callable[[int], bool]) -> Iterator[None]:
    """Turn what the machine does to a run into a sentence that says what to do.

    ``try_batch`` makes a step with so many images; called where memory was too small for ``batch_size``.
    """
    try:
        yield
        return
    except DeadReader:
        full, reader = False, True
    except (RuntimeError, MemoryError) as error:
        full, reader = no_memory(error), "DataLoader worker" in str(error)
        if not (full or reader or (isinstance(error, RuntimeError) and is_peer_lost(error))):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the step's activations
    if full:
        raise UserError(f"Memory does not hold a step with a batch of {batch_size}; {smaller(batch_size, try_batch)}.")
    if reader:
        raise DeadReader(f"{DEAD_READER.rstrip('.')}, or go on with 'sslzoo train --resume {run}'.")
    raise UserError(
        f"Another process of this run has ended or cannot be reached; see what it said, and 'sslzoo train --resume "
        f"{run}', started as before, goes on."
    )


def smaller(batch_size: int, try_batch: Callable[[int], bool]) -> str:
    """Say which smaller batch fits, found by trying; with several processes nothing is tried."""
    other = "a smaller --image-size or another --backbone needs less too"
    n = batch_size // 2
    while collectives.world() == 1 and n >= 2:
        try:
            if try_batch(n):
                return f"--batch-size {n} was tried and fits, and {other}"
        except (RuntimeError, MemoryError, UserError) as error:  # too large still; or too small for this recipe
            traceback.clear_frames(error.__traceback__)
        n //= 2
    if collectives.world() > 1:
        return f"try --batch-size {max(n, 2)} or more processes; {other}"
    return f"no smaller batch fits either; {other}"
