"""Streams: random crops of image files, decoded by worker processes that stay for all epochs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from .errors import from_workers
from .images import Picture
from .schema import View
from .views import ALONE, Draw, Share, draw_boxes

Pipeline = tuple[View, int]  # an augmentation, and the size of its view in px
Ask = tuple[int, int]  # an epoch, and an image's place


class Crops(Dataset[list[Tensor]]):
    """The random resized crops of a batch of files: for each view uint8 [N, 3, size, size].

    They depend on the seed, the epoch and the batch's first place alone, whoever makes them; of a batch only this
    process's share is made. A picture is decoded once for all of its views, and no finer than the smallest of its crops
    needs.
    """

    def __init__(self, paths: tuple[Path, ...], pipelines: Sequence[Pipeline], seed: int, share: Share = ALONE):
        self.paths, self.pipelines, self.seed, self.share = paths, pipelines, seed, share

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, asked: list[Ask]) -> list[Tensor]:
        generator = Generator().manual_seed(hash((self.seed, *asked[0])) & (2**63 - 1))
        rank, of = self.share
        asked = asked[rank * len(asked) // of : (rank + 1) * len(asked) // of]
        pictures = [Picture(self.paths[place]) for _, place in asked]
        height, width = (torch.tensor([getattr(p, side) for p in pictures]) for side in ("height", "width"))
        draw = Draw(len(asked), generator, self.share)
        boxes = [draw_boxes(draw, height, width, view) for view, _ in self.pipelines]
        flips = [draw.chance(view.flip) for view, _ in self.pipelines]
        rooms = [box[:, 2:].amin(dim=1) / size for box, (_, size) in zip(boxes, self.pipelines, strict=True)]
        made = [torch.empty(len(asked), 3, size, size, dtype=torch.uint8) for _, size in self.pipelines]
        for i, room in enumerate(torch.stack(rooms).amin(dim=0).tolist()):
            pixels = pictures[i].pixels(room)
            down, across = pixels.shape[1] / pictures[i].height, pixels.shape[2] / pictures[i].width
            for views, box in zip(made, boxes, strict=True):
                top, left, h, w = (round(x * part) for x, part in zip(box[i].tolist(), (down, across) * 2, strict=True))
                cut = pixels[None, :, top : top + h, left : left + w]
                views[i] = F.interpolate(cut, views.shape[-2:], mode="bilinear", antialias=True)[0]
        return [torch.where(flip[:, None, None, None], v.flip(-1), v) for v, flip in zip(made, flips, strict=True)]


class Stream:
    """Gives an epoch's crops, batch by batch; a loader's processes are started once."""

    def __init__(self, crops: Crops, workers: int, device: torch.device):
        self.crops, self.workers, self.device = crops, workers, device
        self.batches: list[list[Ask]] = []  # of the epoch that comes next, as a loader asks for them
        self.loader: DataLoader[list[Tensor]] | None = None

    def epoch(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """The crops of batches of places."""
        self.batches[:] = [[(epoch, place) for place in batch.tolist()] for batch in batches]
        loader, self.loader = self.loader or self.start(), None  # one that is left halfway is not used again
        yield from from_workers(loader)
        self.loader = loader

    def start(self) -> DataLoader[list[Tensor]]:
        """A loader whose processes stay."""
        on_host = self.device.type == "cpu"
        return DataLoader(
            self.crops,
            batch_sampler=self.batches,
            collate_fn=as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            generator=Generator(),  # what a loader draws for its own use must not move the run's numbers
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if self.workers and not on_host else None,
        )


def as_it_is(batch: list[Tensor]) -> list[Tensor]:
    """A batch comes whole."""
    return batch
