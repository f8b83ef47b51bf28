"""CUDA without a GPU: tensors of the device have a shape, a type and strides, but no values; the host's are real.

    with fake_cuda() as watch:
        model.to("cuda")(images.to("cuda", non_blocking=True))
    assert watch.waits == []  # nothing for which the host waits for the device
    assert watch.copies  # what went to the device: how many bytes, whether it was pinned, whether the host waited

It takes a build of torch with CUDA. Mixing devices raises as it does on a GPU. Three things are not as there:
autograd's engine asks the driver for streams, so that `backward` only fills gradients with zeros; fused optimisers move
nothing; and several processes and torch.compile are out of reach.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

import sslzoo

aten = torch.ops.aten
PACKAGE = str(Path(sslzoo.__file__).parent)
WAITS = {  # operations whose result, or the shape of it, the host needs before it goes on
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount",
    "repeat_interleave", "is_nonzero", "equal", "linalg_cholesky", "linalg_solve_ex_check", "linalg_svd", "_linalg_svd",
    "_linalg_eigh", "linalg_inv", "multinomial", "histc",
}  # fmt: skip
FUSED = {"_fused_sgd_", "_fused_adamw_", "_fused_adam_"}  # kernels that a fake tensor has not
INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_"}
MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class Wait:
    """The host waits for the device: for what, and where in the package."""

    what: str
    place: str


@dataclass(frozen=True)
class Copy:
    """Bytes that go from the host to the device; where they are pinned and not blocking, the host does not wait."""

    size: int
    blocking: bool
    pinned: bool
    place: str


class FakeCuda(FakeTensorMode):
    """Notes each wait and each copy to the device while it is on; ``number`` is what every number of the device is."""

    def __init__(self, number: float = 1.0):
        super().__init__(allow_non_fake_inputs=True)
        self.number = number
        self.waits: list[Wait] = []
        self.copies: list[Copy] = []
        self.pinned: dict[int, Tensor] = {}  # by address; held, so that none is given out twice

    def clear(self) -> None:
        """Forget what was noted so far."""
        self.waits.clear()
        self.copies.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func._schema.name.split("::")[1]
        leaves = tree_leaves((args, kwargs))
        if not any(isinstance(x, FakeTensor) or is_cuda(x) for x in leaves):
            return self.on_host(name, func, args, kwargs)
        if name in FUSED:
            return None
        self.note(name, args, kwargs)
        found = self.instead(name, types, args, kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs) if found is NotImplemented else found

    def on_host(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operation of the host alone, done as ever; pinning, for which there is no driver, is noted instead."""
        if name == "is_pinned":
            return self.is_pinned(args[0])
        if name == "_pin_memory":
            return self.pin(args[0].clone())
        if kwargs.pop("pin_memory", False):
            return self.pin(func(*args, **kwargs))
        return func(*args, **kwargs)

    def pin(self, x: Tensor) -> Tensor:
        self.pinned[x.untyped_storage().data_ptr()] = x
        return x

    def is_pinned(self, x: Tensor) -> bool:
        return not isinstance(x, FakeTensor) and x.untyped_storage().data_ptr() in self.pinned

    def instead(self, name: str, types: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What an operation gives whose result depends on values, of which there are none."""
        x = next((x for x in tree_leaves(args) if isinstance(x, FakeTensor)), None)

        def zeros(*shape: int) -> Any:
            assert x is not None
            options = {"dtype": torch.long, "device": x.device}
            return super(FakeCuda, self).__torch_dispatch__(aten.zeros.default, types, (list(shape),), options)

        if name == "_local_scalar_dense":
            kind = args[0].dtype
            return True if kind == torch.bool else self.number if kind.is_floating_point else int(self.number)
        if name == "_to_copy" and x is not None and of_type(kwargs.get("device"), "cpu"):
            return torch.zeros(x.shape, dtype=kwargs.get("dtype") or x.dtype)
        if name == "copy_" and not isinstance(args[0], FakeTensor):
            return args[0]
        if name == "bincount":
            return zeros(kwargs.get("minlength") or (args[2] if len(args) > 2 else 1))
        if name == "index" and len(args[1]) == 1 and args[1][0].dtype in MASKS:
            return args[0].clone()  # as if all were chosen
        if name == "nonzero":
            return zeros(1, args[0].ndim)
        return NotImplemented

    def note(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        """Whether the host waits for an operation, or sends something to the device."""
        if name in WAITS:
            self.waits.append(Wait(name, place()))
        elif name in INDEXES:
            for at in (at for at in args[1] if at is not None):
                if at.dtype in MASKS:
                    self.waits.append(Wait(f"{name} by a mask", place()))
                elif isinstance(args[0], FakeTensor) and not isinstance(at, FakeTensor):
                    self.copied(at, blocking=True)  # torch moves an index of the host by itself
        elif name == "_to_copy" and (to := kwargs.get("device")) is not None:
            if isinstance(args[0], FakeTensor) and args[0].device.type == "cuda" and of_type(to, "cpu"):
                self.waits.append(Wait("copy to the host", place()))
            elif is_cuda(to) and not on_cuda(args[0]):
                self.copied(args[0], not kwargs.get("non_blocking"))
        elif name == "copy_":
            to, source = args[:2]
            if on_cuda(source) and not on_cuda(to):
                self.waits.append(Wait("copy to the host", place()))
            elif on_cuda(to) and not on_cuda(source):
                self.copied(source, not (args[2] if len(args) > 2 else kwargs.get("non_blocking")))

    def copied(self, x: Tensor, blocking: bool) -> None:
        self.copies.append(Copy(x.numel() * x.element_size(), bool(blocking), self.is_pinned(x), place()))


def of_type(device: Any, kind: str) -> bool:
    """Whether something is a device of a kind."""
    return isinstance(device, torch.device) and device.type == kind


def is_cuda(device: Any) -> bool:
    return of_type(device, "cuda")


def on_cuda(x: Any) -> bool:
    """Whether something is a tensor of the device."""
    return isinstance(x, FakeTensor) and x.device.type == "cuda"


def place() -> str:
    """The innermost lines of the package that are running, the last one first."""
    frame, found = sys._getframe(), list[str]()
    while frame.f_back is not None and len(found) < 3:
        frame = frame.f_back
        if frame.f_code.co_filename.startswith(PACKAGE):
            found.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
    return " < ".join(found) or "outside"


def backward(tensors: Any, grad_tensors: Any = None, *_: Any, **__: Any) -> None:
    """In place of autograd's engine: a gradient of zeros for every leaf that it would reach."""
    seen: set[Any] = set()
    todo = [one.grad_fn for one in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.zeros_like(node.variable)
        todo += [following for following, _ in node.next_functions]


_to = nn.Module.to


def to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Fake weights can be moved once only; their memory format changes strides alone."""
    return module if set(kwargs) == {"memory_format"} and not args else _to(module, *args, **kwargs)


@contextmanager
def fake_cuda(number: float = 1.0, free: int = 80 << 30) -> Iterator[FakeCuda]:
    """A block in which there is a GPU with so many free bytes, as far as shapes, types and devices go."""
    stubs = {
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.is_bf16_supported": lambda *_, **__: True,
        "torch.cuda.mem_get_info": lambda *_: (free, 80 << 30),
        "torch.accelerator.is_available": lambda: True,
        "torch.autograd.backward": backward,
        "torch.nn.Module.to": to,
    }
    with ExitStack() as held:
        for name, value in stubs.items():
            held.enter_context(mock.patch(name, value))
        yield held.enter_context(FakeCuda(number))
