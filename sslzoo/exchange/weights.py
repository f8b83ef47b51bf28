"""Weights that belong to a backbone: filled into one, and our own files of them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..core.backbones import STEM, build
from ..tools.errors import UserError
from ..tools.files import write
from .transform import Transform

ENCODER = "encoder.safetensors"  # of a run


@dataclass(frozen=True)
class Weights:
    """Holds a network's weights by the names of the backbone that they are of, for views of a size in px.

    ``said`` is what was made of the file, in a line, and ``transform`` what is done to its images. ``shaped`` is the
    backbone that the shapes tell, where a person named another.
    """

    path: Path
    state: Mapping[str, Tensor] = field(repr=False)
    backbone: str
    transform: Transform
    said: str = ""
    shaped: str | None = None

    @property
    def size(self) -> int:
        """The size of a view in px."""
        return self.transform.size

    @property
    def channels(self) -> int:
        """The channels of the images that the network takes."""
        first = first_convolution(self.state)
        return 3 if first is None else int(self.state[first].shape[1])

    def network(self, size: int | None = None) -> nn.Module:
        """Return the network, for views of a size in px, by default its own. Raises `UserError`."""
        net = build(self.backbone, size or self.size, channels=self.channels)
        self.fill(net)
        return net.eval()

    def fill(self, net: nn.Module) -> None:
        """Load the weights into a backbone; position embeddings are resampled for its views. Raises `UserError`."""
        own = net.state_dict()
        state = {key: value.float() if value.is_floating_point() else value for key, value in self.state.items()}
        first = first_convolution(state)
        if first in own and own[first].ndim == 4 and own[first].shape[1] != state[first].shape[1] == 3:
            state[first] = adapt_input_conv(own[first].shape[1], state[first])  # to images of other channels
        if "pos_embed" in state and "pos_embed" in own:
            state["pos_embed"] = resampled(state["pos_embed"], net, own["pos_embed"])
        state = {**counters(own), **state}
        ours, theirs = (int(found.get(STEM, 1)) for found in (own, state))
        if ours != theirs and misfit(*({k: v for k, v in one.items() if k != STEM} for one in (own, state))) is None:
            raise UserError(
                f"{self.path} is of views of another size, and its first convolution has a stride of {theirs} where "
                f"it has {ours} here; give the --image-size that it was trained with."
            )
        if (why := misfit(own, state)) is not None:
            raise UserError(
                f"{self.path} does not fit the backbone ({why}); give the --backbone that it was trained with, perhaps "
                f"{self.shaped or self.backbone}."
            )
        net.load_state_dict(state)


def first_convolution(state: Mapping[str, Tensor]) -> str | None:
    """Return the key of the first convolution's weights; None where there is none."""
    return next((key for key, value in state.items() if value.ndim == 4 and key.endswith("weight")), None)


def counters(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return batch norm's counts of batches, which old files lack, and nothing reads."""
    return {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str | None:
    """Return why weights do not fit a network, by the first key; None where they do."""
    for key, value in own.items():
        if key not in state:
            return f"it lacks {key}"
        if state[key].shape != value.shape:
            return f"{key} is {list(state[key].shape)}, where {list(value.shape)} is needed"
    left = next((key for key in state if key not in own), None)
    return None if left is None else f"{left} is left over"


def resampled(embeddings: Tensor, net: nn.Module, own: Tensor) -> Tensor:
    """Return position embeddings [1, N, D] for a network's own grid of patches."""
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if grid is None or embeddings.shape == own.shape or embeddings.ndim != 3 or embeddings.shape[2] != own.shape[2]:
        return embeddings
    prefix = own.shape[1] - grid[0] * grid[1]
    side = isqrt(max(embeddings.shape[1] - prefix, 0))
    if side * side != embeddings.shape[1] - prefix:  # no square of patches, which `misfit` says
        return embeddings
    found: Tensor = resample_abs_pos_embed(embeddings, [*grid], num_prefix_tokens=prefix)
    return found


# ---- our own files


def save_encoder(path: Path, encoder: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write a backbone's weights as safetensors, with what is needed to use them as its metadata."""
    save_state(path, encoder.state_dict(), metadata)


def save_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write weights as `save_encoder` does."""
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
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


def metadata(path: Path) -> dict[str, Any]:
    """Return what one of our own files says of itself; nothing of others."""
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return {}
    try:
        with safe_open(path, "pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, ValueError, OSError, RuntimeError):  # another program's, or broken, which `read` says
        return {}
