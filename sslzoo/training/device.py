"""The device of a run and the precision that it computes in."""

import re

import torch

from ..processes.collectives import world
from ..processes.launched import local_rank
from ..tools.errors import UserError, listing

PRECISIONS = ("auto", "float32", "bf16", "fp16")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str) -> torch.device:
    """The device: for "auto" cuda, mps or cpu, whichever is there first. Raises `UserError` for one that is not."""
    name = str(name)  # a run's own may be anything
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there["mps"] &= world() == 1  # its tensors cannot be sent to other processes
    if name == "auto":
        name = next(kind for kind, ready in there.items() if ready)
    if name == "cuda" and world() > 1:
        if local_rank() >= torch.cuda.device_count():
            raise UserError(
                f"There are {torch.cuda.device_count()} GPUs; start no more processes on a machine than that."
            )
        name = f"cuda:{local_rank()}"
        torch.cuda.set_device(name)
    elif world() > 1 and name.startswith("cuda:"):
        raise UserError(f"Each process takes a GPU of its own; leave --device {name} out.")
    kind = name.split(":")[0]
    if kind not in there:
        raise UserError(f"--device cannot be {name!r}; it is auto, {listing(there)}.")
    number = name.removeprefix(kind).removeprefix(":")
    if not there[kind] or (
        number
        and not (re.fullmatch("[0-9]{1,2}", number) and (kind != "cuda" or int(number) < torch.cuda.device_count()))
    ):
        raise UserError(
            f"There is no {name} on this machine; use --device {listing(k for k, ready in there.items() if ready)}."
        )
    return torch.device(name)


def find_precision(name: str, device: torch.device) -> str:
    """ "bf16", "fp16" or "float32". Raises `UserError`.

    For "auto" on a GPU bf16 where it computes in it, not where that is emulated, else fp16; elsewhere float32.
    """
    if name not in PRECISIONS:
        raise UserError(f"--precision cannot be {name!r}; it is {listing(PRECISIONS)}.")
    if name == "fp16" and device.type != "cuda":
        raise UserError(f"--precision fp16 is for CUDA, and the device is {device.type}; use bf16 or float32.")
    if name != "auto":
        return name
    if device.type != "cuda":
        return "float32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A block whose heavy operations are in a precision."""
    half = HALVES.get(precision)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)
