"""Streams: random crops of image files, decoded by worker processes that stay for all epochs."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.picture import Picture, Unreadable
from ..recipes.schema import View
from ..tools.errors import SIGNALS, UserError, from_workers
from .augment import ALONE, Draw, Share, draw_boxes

T = TypeVar("T")
Pipeline = tuple[View, int]  # an augmentation, and the size of its view in px
Ask = tuple[int, int]  # an epoch, and an image's place


class Made(NamedTuple):
    """A batch: for each view uint8 [N, 3, size, size], the places of its images [N], and what was found unreadable."""

    views: list[Tensor]
    places: Tensor
    bad: list[tuple[int, str]]


class Crops(Dataset[Made]):
    """The random resized crops of a batch of files.

    They depend on the seed, the epoch and the batch's first place alone, whoever makes them; of a batch only this
    process's share is made. A picture is decoded once for all of its views, and no finer than the smallest of its crops
    needs. Another stands in for one that cannot be read.
    """

    def __init__(self, paths: tuple[Path, ...], pipelines: Sequence[Pipeline], seed: int, share: Share = ALONE):
        self.paths, self.pipelines, self.seed, self.share = paths, pipelines, seed, share
        self.bad: dict[int, str] = {}  # what this process found, so that it is not read again

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, asked: list[Ask]) -> Made:
        first, known, (rank, of) = asked[0], set(self.bad), self.share
        asked = asked[rank * len(asked) // of : (rank + 1) * len(asked) // of]
        rows = [self.candidates(*ask) for ask in asked]
        chosen = [next(row) for row in rows]
        boxes, flips = self.draw(first, chosen)
        made = [torch.empty(len(asked), 3, size, size, dtype=torch.uint8) for _, size in self.pipelines]
        for i, row in enumerate(rows):
            while not self.cut(*chosen[i], [box[i] for box in boxes], [views[i] for views in made]):
                chosen[i] = next(row)
                boxes, _ = self.draw(first, chosen)  # the same numbers: the other rows keep their boxes
        views = [torch.where(flip[:, None, None, None], v.flip(-1), v) for v, flip in zip(made, flips, strict=True)]
        found = [(place, why) for place, why in self.bad.items() if place not in known]
        return Made(views, torch.tensor([place for place, _ in chosen]), found)

    def candidates(self, epoch: int, place: int) -> Iterator[tuple[int, Picture]]:
        """An image, then those that stand in for it: all others, from one on that seed, epoch and place choose."""
        n = len(self.paths)
        start = hash((self.seed, epoch, place)) % max(n - 1, 1)
        for other in (place, *((place + 1 + (start + k) % (n - 1)) % n for k in range(n - 1))):
            if other in self.bad:
                continue
            try:
                picture = Picture(self.paths[other])
            except Unreadable as error:
                self.bad[other] = error.reason
            else:
                yield other, picture
        raise UserError(
            f"None of {n} images can be read, {self.paths[place]} ({self.bad[place]}) among them; mend them."
        )

    def draw(self, first: Ask, chosen: list[tuple[int, Picture]]) -> tuple[list[list[list[float]]], list[Tensor]]:
        """Boxes and flips of a batch, for each view; an image's size changes its own box alone."""
        height, width = (torch.tensor([getattr(p, side) for _, p in chosen]) for side in ("height", "width"))
        draw = Draw(len(chosen), Generator().manual_seed(hash((self.seed, *first)) & (2**63 - 1)), self.share)
        boxes = [draw_boxes(draw, height, width, view).tolist() for view, _ in self.pipelines]
        return boxes, [draw.chance(view.flip) for view, _ in self.pipelines]

    def cut(self, place: int, picture: Picture, boxes: list[list[float]], views: list[Tensor]) -> bool:
        """Decode a picture and fill its views with its crops; False where that cannot be."""
        try:
            pixels = picture.pixels(min(min(box[2:]) / view.shape[-1] for box, view in zip(boxes, views, strict=True)))
        except Unreadable as error:
            self.bad[place] = error.reason
            return False
        down, across = pixels.shape[1] / picture.height, pixels.shape[2] / picture.width
        for view, box in zip(views, boxes, strict=True):
            top, left, h, w = (round(x * part) for x, part in zip(box, (down, across) * 2, strict=True))
            cut = pixels[None, :, top : top + h, left : left + w]
            view.copy_(F.interpolate(cut, view.shape[-2:], mode="bilinear", antialias=True)[0])
        return True


class Stream:
    """Gives an epoch's crops, batch by batch; a loader's processes are started once."""

    def __init__(self, crops: Crops, workers: int, device: torch.device):
        self.crops, self.workers, self.device = crops, workers, device
        self.batches: list[list[Ask]] = []  # of the epoch that comes next, as a loader asks for them
        self.loader: DataLoader[Made] | None = None

    def epoch(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Made]:
        """The crops of batches of places."""
        self.batches[:] = [[(epoch, place) for place in batch.tolist()] for batch in batches]
        loader, self.loader = self.loader or self.start(), None  # one that is left halfway is not used again
        yield from from_workers(loader)
        self.loader = loader

    def start(self) -> DataLoader[Made]:
        """A loader whose processes stay."""
        on_host = self.device.type == "cpu"
        return DataLoader(
            self.crops,
            batch_sampler=self.batches,
            collate_fn=as_it_is,
            num_workers=self.workers,
            worker_init_fn=deaf,
            persistent_workers=self.workers > 0,
            generator=Generator(),  # what a loader draws for its own use must not move the run's numbers
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if self.workers and not on_host else None,
        )


def deaf(_: int) -> None:
    """A process that reads leaves it to the run when to stop."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def as_it_is(batch: T) -> T:
    """A batch comes whole."""
    return batch
