"""What a run depends on beside its recipe: versions, the device, memory, and a model that can be compiled."""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import Tensor, nn

from ..core.siamese import Siamese
from ..tools.version import __version__

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
PACKAGES = ("torch", "torchvision", "timm", "faiss-cpu", "numpy")


def versions() -> dict[str, str]:
    """Of this package, of those that compute, and of Python."""
    return {"sslzoo": __version__, **{name: version(name) for name in PACKAGES}, "python": platform.python_version()}


def device_name(device: torch.device) -> str:
    """The device with its model, or its number of threads."""
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
def without_trace(model: nn.Module, device: torch.device) -> Iterator[None]:
    """A block after which a model's state, its gradients and torch's random numbers are as they were."""
    state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in model.state_dict().items()}
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)


def compiled(model: Siamese, views: list[Tensor], index: Tensor, autocast: torch.autocast) -> str | None:
    """Compile a model in place, so that its checkpoints keep their keys, and try forward and backward on a batch.

    Where that fails the model stays as it was, and the reason is returned. The trial leaves no trace: state, gradients
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
