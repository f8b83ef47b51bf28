"""What a run computes on: device, precision and versions, memory, and a model that can be compiled."""

import ctypes
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import Tensor, nn

from ..core.backbones import DRAWING
from ..core.siamese import Siamese
from ..processes.collectives import world
from ..processes.launched import local_rank
from ..tools.errors import UserError, listing
from ..tools.version import __version__

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
PACKAGES = ("torch", "torchvision", "timm", "faiss-cpu", "numpy")
PRECISIONS = ("auto", "float32", "bf16", "fp16")
BF16_INSTRUCTIONS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str) -> torch.device:
    """Return the device: for "auto" the first of cuda, mps and cpu that is there.

    Raises `UserError` for one that is not.
    """
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
    """Return "bf16", "fp16" or "float32". Raises `UserError`.

    "auto" is on a GPU bf16 where it computes in it, not where that is emulated, else fp16; on a CPU it is bf16 where
    there are instructions for it, else float32, as on other devices.
    """
    if name not in PRECISIONS:
        raise UserError(f"--precision cannot be {name!r}; it is {listing(PRECISIONS)}.")
    if name == "fp16" and device.type != "cuda":
        raise UserError(f"--precision fp16 is for CUDA, and the device is {device.type}; use bf16 or float32.")
    if name != "auto":
        return name
    if device.type == "cpu":
        return "bf16" if multiplies_bf16() else "float32"
    if device.type != "cuda":
        return "float32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def multiplies_bf16() -> bool:
    """Return whether this processor has instructions that multiply bf16 (AVX512-BF16, AMX), and torch uses them."""
    usable = torch.backends.cpu.get_cpu_capability() == "AVX512"  # also where ATEN_CPU_CAPABILITY says less
    asked = (getattr(torch.cpu, name, bool) for name in BF16_INSTRUCTIONS)  # names that torch keeps for itself
    return usable and any(has() for has in asked)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a block whose heavy operations are in a precision."""
    half = HALVES.get(precision)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def evaluation_autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a block to evaluate a network in: of its training's precision on a GPU, of float32 elsewhere."""
    return autocast(device, precision if device.type == "cuda" else "float32")


def versions() -> dict[str, str]:
    """Return the versions of this package, of those that compute, and of Python."""
    return {"sslzoo": __version__, **{name: version(name) for name in PACKAGES}, "python": platform.python_version()}


def other_versions(began: Mapping[str, str] | None) -> str:
    """Return which versions are others than those with which something began; nothing where all are the same."""
    known, now = began or {}, versions()
    others = [name for name in now if known.get(name, now[name]) != now[name] and name != "python"]
    return ", ".join(f"{name} {known[name]} (now {now[name]})" for name in others)


def device_name(device: torch.device) -> str:
    """Return the device with its model, or its number of threads, in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def keep_memory() -> None:
    """Let this process keep what it frees, where the C library is glibc; for one that is ours alone.

    A step frees large blocks that the next one asks for again, and the system is slow to hand out their pages.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def fast_products(device: torch.device, precision: str) -> Iterator[None]:
    """Let a GPU multiply float32 in TF32 and try which convolution is fastest within a block; then all is as before.

    Where float32 is the precision that somebody asked for, it is float32 in full, and nothing is tried.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, full = torch.backends.cudnn, precision == "float32"
    before = (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark)
    torch.set_float32_matmul_precision("highest" if full else "high")
    cudnn.allow_tf32, cudnn.benchmark = not full, not full
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, cudnn.benchmark = before[1:]


@contextmanager
def restored_generators() -> Iterator[None]:
    """Bring torch's random numbers back to what they were before a block, as if it had drawn none."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    kept = torch.random.fork_rng(range(torch.cuda.device_count()) if used else [])
    with DRAWING:
        kept.__enter__()
    try:
        yield
    finally:
        with DRAWING:  # not while another thread draws its weights
            kept.__exit__(None, None, None)


@contextmanager
def without_trace(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Bring a model's state, its gradients and torch's random numbers back to what they were before a block."""
    state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in model.state_dict().items()}
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)


def compiled(model: Siamese, views: list[Tensor], index: Tensor, autocast: torch.autocast) -> str | None:
    """Compile a model in place, so that its checkpoints keep their keys, and try forward and backward on a batch.

    Where that fails the model stays as it was; return the reason. The trial leaves no trace: state, gradients
    and random numbers are as before.
    """
    model.compile()
    try:
        with without_trace(model, views[0].device):
            with autocast:
                loss, _ = model(views, index)
            torch.autograd.backward(loss)
    except Exception as error:  # the compiler's stages and the compilers that it calls raise many kinds
        model._compiled_call_impl = None
        return f"torch.compile failed ({str(error).splitlines()[0] or type(error).__name__}); going on without it."
    return None
