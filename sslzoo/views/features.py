"""Features of a data set: eval mode, no augmentation, whole splits, in the data's order."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import isqrt
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from ..data.decoded.crops import Crop
from ..data.images import ImageSource, ReadImages
from ..data.splits import Split
from ..tools.errors import from_workers
from .colours import Colours
from .loading import awaited, loader

BATCH = 256
CPU = torch.device("cpu")
RAW_BYTES = 2**30  # of raw pixels as float32, of all images that are compared by them
RAW_SMALLEST = 8  # px


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a network: its size in px, and the mean and deviation of its channels.

    ``crop`` is how it is cut where that is not as our own views for evaluation are.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Crop | None = None


def raw_size(images: int, size: int) -> int:
    """Return the size in px at which so many images of a size are compared by their raw pixels: that size, or smaller.

    It is a matter of the data alone and not of a machine, so that the result is one.
    """
    return min(size, max(RAW_SMALLEST, isqrt(RAW_BYTES // (4 * 3 * max(images, 1)))))


class Rows(TorchDataset[ReadImages]):
    """Reads files as square uint8 images [N, 3, size, size]; run by worker processes."""

    def __init__(self, source: ImageSource, size: int, crop: Crop | None = None):
        self.source, self.size, self.crop = source, size, crop

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, places: list[int]) -> ReadImages:
        return self.source.read(places, self.size) if self.crop is None else self.source.cut(places, self.crop)


def images(
    split: Split, size: int, workers: int = 0, device: torch.device = CPU, crop: Crop | None = None
) -> Iterator[Tensor]:
    """Yield the readable images of a split, uint8 [N, 3, size, size], in batches; note others in ``unreadable``.

    They are on the host, pinned where they are for a GPU. With a ``crop`` they are cut by that.
    """
    split = split.readable()
    rows = Rows(split.images, size, crop)
    if not split.images.paths or (crop is None and split.images.in_memory(size)):  # there is nothing to read
        for places in torch.split(torch.arange(len(split)), BATCH):
            batch = rows.__getitems__(places.tolist()).pixels
            yield batch.pin_memory() if device.type == "cuda" else batch
    else:
        batches = loader(rows, workers, device, batch_size=BATCH)
        for found in from_workers(awaited(batches)):
            split.unreadable.reasons |= {split.images.paths[place]: why for place, why in found.unreadable}
            split.images.learn(found.seen)
            yield found.pixels


@torch.no_grad()
def features(
    encoder: nn.Module | None,
    split: Split,
    how: Preprocessing,
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
    autocast: torch.autocast | None = None,
) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return features [N, D] of a split, float32; of the raw pixels in [0, 1], flattened, where ``encoder`` is None.

    `Colours` are given the pixels as they are, on the host.
    Images that cannot be read have no row: the rows are those of ``split.readable()``, asked for afterwards.
    ``progress`` is told how many images are done; ``autocast`` is the block in which the network runs. Raises
    `UserError` where no image can be read.
    """
    parts = []
    training = encoder is not None and encoder.training
    if encoder is not None:
        encoder.eval()
    centre = torch.tensor(how.mean, device=device)[:, None, None]
    spread = torch.tensor(how.std, device=device)[:, None, None]
    layout = torch.channels_last if device.type == "cuda" else torch.preserve_format
    if encoder is not None and device.type == "cuda":
        encoder.to(memory_format=torch.channels_last)
    on_host = encoder is None or isinstance(encoder, Colours)
    for batch in images(split, how.size, workers, CPU if on_host else device, how.crop):
        if not len(batch):
            continue
        if encoder is None:
            parts.append(batch.flatten(1).float() / 255)
        elif isinstance(encoder, Colours):
            parts.append(encoder(batch))
        else:
            there = batch.to(device, non_blocking=True).to(memory_format=layout)
            with autocast or nullcontext():
                found = cast(Tensor, encoder((there.float() / 255 - centre) / spread))
            parts.append(found.flatten(1).float().cpu())
        if progress is not None:
            progress(sum(map(len, parts)))
    if encoder is not None:
        encoder.train(training)
    if not parts:
        raise split.unreadable.none_readable(split.images.paths)
    return torch.cat(parts).numpy()
