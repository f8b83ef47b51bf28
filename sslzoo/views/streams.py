"""Streams: random crops of image files, decoded by worker processes that stay for all epochs."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.depth import Range
from ..data.picture import Picture, UnreadableImage
from ..recipes.schema import View
from ..tools.errors import SIGNALS, UserError, from_workers
from .augment import ALONE, Draw, Share, draw_boxes

T = TypeVar("T")
Pipeline = tuple[View, int]  # an augmentation, and the size of its view in px
Request = tuple[int, int]  # an epoch, and an image's place


class CropBatch(NamedTuple):
    """Holds a batch: for each view uint8 [N, 3, size, size], the places of its images [N], and what is unreadable."""

    views: list[Tensor]
    places: Tensor
    unreadable: list[tuple[int, str]]


class Crops(Dataset[CropBatch]):
    """Makes the random resized crops of a batch of files.

    They depend on the seed, the epoch and the batch's first place alone, whoever makes them; of a batch only this
    process's share is made. A picture is decoded once for all of its views, and no finer than the smallest of its crops
    needs. Another stands in for one that cannot be read.
    """

    def __init__(
        self, paths: tuple[Path, ...], pipelines: Sequence[Pipeline], seed: int, share: Share = ALONE,
        shown: Range | None = None,
    ):  # fmt: skip
        self.paths, self.pipelines, self.seed, self.share, self.shown = paths, pipelines, seed, share, shown
        self.unreadable: dict[int, str] = {}  # what this process found, so that it is not read again

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, requests: list[Request]) -> CropBatch:
        first, known, (rank, of) = requests[0], set(self.unreadable), self.share
        requests = requests[rank * len(requests) // of : (rank + 1) * len(requests) // of]
        rows = [self.candidates(*request) for request in requests]
        chosen = [next(row) for row in rows]
        boxes, flips = self.draw(first, chosen)
        made = [torch.empty(len(requests), 3, size, size, dtype=torch.uint8) for _, size in self.pipelines]
        for i, row in enumerate(rows):
            while not self.cut(*chosen[i], [box[i] for box in boxes], [views[i] for views in made]):
                chosen[i] = next(row)
                boxes, _ = self.draw(first, chosen)  # the same numbers: the other rows keep their boxes
        views = [torch.where(flip[:, None, None, None], v.flip(-1), v) for v, flip in zip(made, flips, strict=True)]
        found = [(place, why) for place, why in self.unreadable.items() if place not in known]
        return CropBatch(views, torch.tensor([place for place, _ in chosen]), found)

    def candidates(self, epoch: int, place: int) -> Iterator[tuple[int, Picture]]:
        """Yield an image, then those that stand in for it: all others, from one on that seed, epoch and place choose.

        Raises `UserError` where none of them can be read.
        """
        n = len(self.paths)
        start = hash((self.seed, epoch, place)) % max(n - 1, 1)
        for other in (place, *((place + 1 + (start + k) % (n - 1)) % n for k in range(n - 1))):
            if other in self.unreadable:
                continue
            try:
                picture = Picture(self.paths[other], self.shown)
            except UnreadableImage as error:
                self.unreadable[other] = error.reason
            else:
                yield other, picture
        raise UserError(
            f"None of {n} images can be read, {self.paths[place]} ({self.unreadable[place]}) among them; mend them."
        )

    def draw(self, first: Request, chosen: list[tuple[int, Picture]]) -> tuple[list[list[list[float]]], list[Tensor]]:
        """Draw boxes and flips of a batch, for each view; an image's size changes its own box alone."""
        height, width = (torch.tensor([getattr(p, side) for _, p in chosen]) for side in ("height", "width"))
        draw = Draw(len(chosen), Generator().manual_seed(hash((self.seed, *first)) & (2**63 - 1)), self.share)
        boxes = [draw_boxes(draw, height, width, view).tolist() for view, _ in self.pipelines]
        return boxes, [draw.chance(view.flip) for view, _ in self.pipelines]

    def cut(self, place: int, picture: Picture, boxes: list[list[float]], views: list[Tensor]) -> bool:
        """Decode a picture and fill its views with its crops; return False where that cannot be."""
        try:
            pixels = picture.pixels(min(min(box[2:]) / view.shape[-1] for box, view in zip(boxes, views, strict=True)))
        except UnreadableImage as error:
            self.unreadable[place] = error.reason
            return False
        down, across = pixels.shape[1] / picture.height, pixels.shape[2] / picture.width
        for view, box in zip(views, boxes, strict=True):
            top, left, h, w = (round(x * part) for x, part in zip(box, (down, across) * 2, strict=True))
            cut = pixels[None, :, top : top + h, left : left + w]
            view.copy_(F.interpolate(cut, view.shape[-2:], mode="bilinear", antialias=True)[0])
        return True


class Stream:
    """A stream gives an epoch's crops, batch by batch; its loader's processes are started once."""

    def __init__(self, crops: Crops, workers: int, device: torch.device):
        self.crops, self.workers, self.device = crops, workers, device
        self.batches: list[list[Request]] = []  # of the epoch that comes next, as a loader asks for them
        self.loader: DataLoader[CropBatch] | None = None

    def epoch(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[CropBatch]:
        """Yield the crops of batches of places. Raises `UserError`; `DeadReader` if a process that reads has died."""
        self.batches[:] = [[(epoch, place) for place in batch.tolist()] for batch in batches]
        loader, self.loader = self.loader or self.start(), None  # one that is left halfway is not used again
        yield from from_workers(loader)
        self.loader = loader

    def start(self) -> DataLoader[CropBatch]:
        """Return a loader whose processes stay."""
        return DataLoader(
            self.crops,
            batch_sampler=self.batches,
            collate_fn=keep_whole,
            num_workers=self.workers,
            worker_init_fn=ignore_signals,
            persistent_workers=self.workers > 0,
            generator=Generator(),  # what a loader draws for its own use must not move the run's numbers
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=start_method(self.workers, self.device),
        )


def start_method(workers: int, device: torch.device) -> str | None:
    """Return how readers are started: not as copies of a process that uses a GPU, which is no use to a copy."""
    on_gpu = device.type != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return "spawn" if workers and on_gpu else None


def ignore_signals(_: int) -> None:
    """Ignore what asks a process to stop, in one that reads for a run: when to stop is the run's to say."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def keep_whole(batch: T) -> T:
    """Return a batch as its data set made it."""
    return batch
