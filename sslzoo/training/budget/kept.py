"""What a machine is known to reach, so that it makes one plan of one command, whatever else it does just now."""

import hashlib
import json
import platform
from contextlib import suppress
from pathlib import Path

import torch

from ...processes.launched import cores
from ...recipes.recipe import Recipe, dump
from ...tools.errors import UserError
from ...tools.places import cache
from ...tools.records import write_json
from ..machine import device_name, versions
from ..options import Options
from ..plan import Surroundings
from .timing import Speed

ONCE = ("features", "a_checkpoint", "a_billion")  # that are measured in a moment, and may be held up in it
FAR = 4.0  # times slower than now: these were
NEAR = 1.3  # times slower or faster than what is kept: another load of the machine, and no other machine


def steady(now: Speed, path: Path) -> Speed:
    """Return what is kept in a file where it is near to what was measured now; else that, which is kept from now on.

    Images that were read before are read faster, and their first reading is what counts.
    """
    known = read(path)
    if known is not None and _is_near(now, known):
        return known
    with suppress(OSError, UserError):  # no room, or not ours to write: it is measured each time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
    return now


def _is_near(now: Speed, known: Speed) -> bool:
    """Return whether what is kept can be of this machine, of which nothing else was measured while it was held up."""
    steps = 1 / NEAR <= now.a_step / known.a_step <= NEAR and now.an_image <= NEAR * known.an_image + 1e-3
    return steps and all(getattr(known, name) <= FAR * getattr(now, name) for name in ONCE)


def read(path: Path) -> Speed | None:
    """Return what is kept in a file; None where it is none, or damaged."""
    if not path.is_file():
        return None
    with suppress(UserError):
        found = Speed.read(path, "It is damaged.")
        if all(number >= 0 for number in vars(found).values()) and found.a_step > 0:
            return found
    return None


def place(recipe: Recipe, options: Options, around: Surroundings, size: int) -> Path:
    """Return the cache's file for the speed of a recipe with views of a size, on these data and this machine."""
    given = options.resolved() if around.data.own else options
    data = json.dumps(given.source) if given.asked else given.place
    machine = [processor(), cores(), torch.get_num_threads(), device_name(around.device), versions()]
    run = [dump(recipe), size, around.precision, options.workers, options.memory, options.accumulate]
    run += [options.compile, *([options.channels] if options.channels is not None else [])]
    about = [*machine, *run, data, len(around.data.train)]
    return cache() / "speeds" / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.json"


def processor() -> str:
    """Return the processor's model."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
