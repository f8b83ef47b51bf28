"""Features of a data set: eval mode, no augmentation, whole splits, in the data's order."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .errors import from_workers
from .images import Picture, square
from .splits import Split

BATCH = 256


class Squares(TorchDataset[Tensor]):
    """Files as square uint8 images [3, size, size]; run by worker processes."""

    def __init__(self, paths: tuple[Path, ...], size: int):
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        return square(Picture(self.paths[place]).pixels()[None], self.size)[0]


def images(split: Split, size: int, workers: int = 0) -> Iterator[Tensor]:
    """The images of a split, uint8 [N, 3, size, size], in batches."""
    if isinstance(split.images, Tensor):
        for part in torch.split(split.images, BATCH):
            yield square(part, size)
    else:
        yield from from_workers(DataLoader(Squares(split.images, size), batch_size=BATCH, num_workers=workers))


@torch.no_grad()
def features(
    encoder: nn.Module | None,
    split: Split,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Features [N, D] of a split, float32; of the raw pixels in [0, 1], flattened, where ``encoder`` is None.

    ``progress`` is told how many images are done.
    """
    parts = []
    training = encoder is not None and encoder.training
    if encoder is not None:
        encoder.eval()
    centre = torch.tensor(mean, device=device)[:, None, None]
    spread = torch.tensor(std, device=device)[:, None, None]
    for batch in images(split, size, workers):
        if encoder is None:
            parts.append(batch.flatten(1).float() / 255)
        else:
            found = cast(Tensor, encoder((batch.to(device).float() / 255 - centre) / spread))
            parts.append(found.flatten(1).float().cpu())
        if progress is not None:
            progress(sum(map(len, parts)))
    if encoder is not None:
        encoder.train(training)
    return torch.cat(parts).numpy()
