"""Our own weights files: a backbone written, and read into one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from ..core.encoders import STEM
from ..tools.errors import UserError
from ..tools.files import write


def save_encoder(path: Path, encoder: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a backbone's weights as safetensors, with what is needed to use them as its metadata."""
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    write(path, _ordered(save(weights, {key: json.dumps(value) for key, value in metadata.items()})))


def _ordered(file: bytes) -> bytes:
    """Return a safetensors file with its metadata in order, so that equal weights are equal files.

    A file is the length of its header in eight bytes, the header as JSON, padded with spaces to a multiple of eight,
    and the tensors.
    """
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a backbone's weights from a .safetensors or .pt file, or from a run directory. Raises `UserError`."""
    path = path / "encoder.safetensors" if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise UserError(f"There are no weights at {path}; give a run that has ended an epoch, or a file.")
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = cast(dict[str, torch.Tensor], torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as weights ({type(error).__name__}); give a .safetensors or .pt file."
        ) from None
    except Exception as error:  # pickle.UnpicklingError and kin
        raise UserError(f"{path} is no plain state dict ({type(error).__name__}); save it with safetensors.") from None
    try:
        learnt = {name for name, _ in model.named_parameters()}  # a buffer may be infinite, as a mask is
        for name, value in weights.items():
            if (name in learnt or ".running_" in name) and not bool(value.isfinite().all()):
                raise UserError(f"{path} has weights that are not finite, first {name}; give others.")
        ours, theirs = (int(found.get(STEM, 1)) for found in (model.state_dict(), weights))
        if ours != theirs:
            raise UserError(
                f"{path} is of views of another size, and its first convolution has a stride of {theirs} where it has "
                f"{ours} here; give the --image-size that it was trained with."
            )
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path} does not fit the backbone ({detail}); give the --backbone that it was trained with."
        ) from None
