"""What reads a batch of images for training, in a process of its own perhaps: whole squares, or random crops."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import Dataset

from ..data.contents.kept import Stamp
from ..data.images import ImageSource, Opened
from ..data.picture import UnreadableImage
from ..recipes.schema import View
from ..tools.errors import UserError
from .augment import ALONE, Draw, Share, draw_boxes

Pipeline = tuple[View, int]  # an augmentation, and the size of its view in px
Request = tuple[int, int]  # an epoch, and an image's place


class ReadBatch(NamedTuple):
    """Holds a batch: images, uint8 [N, 3, size, size], or those of each view, and the places of the images [N].

    ``unreadable`` and ``seen`` have the places, with reasons and with stamps, of the files that were read.
    """

    images: list[Tensor]
    places: Tensor
    unreadable: list[tuple[int, str]]
    seen: list[tuple[int, Stamp]]


def in_turn(seed: int, epoch: int, place: int, n: int) -> Iterator[int]:
    """Yield the place of an image, of n, then those that stand in for it: all others, from one that the numbers choose.

    Nearly always the first is all that is asked for.
    """
    yield place
    start = hash((seed, epoch, place)) % max(n - 1, 1)
    yield from ((place + 1 + (start + k) % (n - 1)) % n for k in range(n - 1))


class Reader(Dataset[ReadBatch]):
    """Reads the batches of this process's share.

    What comes of it depends on the seed, the epoch and the batch's first place alone, whoever reads. Another image
    stands in for one that cannot be read.
    """

    def __init__(self, images: ImageSource, seed: int, share: Share = ALONE):
        self.images, self.seed, self.share = images, seed, share
        self.unreadable: dict[int, str] = {}  # what this process found, so that it is not read again
        self.seen: dict[int, Stamp] = {}  # likewise

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, requests: list[Request]) -> ReadBatch:
        unreadable, seen, (rank, of) = set(self.unreadable), set(self.seen), self.share
        mine = requests[rank * len(requests) // of : (rank + 1) * len(requests) // of]
        images, places = self.read(requests[0], mine)
        return ReadBatch(
            images, torch.tensor(places),
            [(place, why) for place, why in self.unreadable.items() if place not in unreadable],
            [(place, stamp) for place, stamp in self.seen.items() if place not in seen],
        )  # fmt: skip

    @abstractmethod
    def read(self, first: Request, requests: list[Request]) -> tuple[list[Tensor], list[int]]:
        """Return images and their places; ``first`` is the first request of the batch, of all processes."""

    def candidates(self, epoch: int, place: int) -> Iterator[int]:
        """Yield the place of an image, then of those that stand in for it, but for those known as unreadable.

        Raises `UserError` where none of them can be read.
        """
        n = len(self.images)
        yield from (one for one in in_turn(self.seed, epoch, place, n) if one not in self.unreadable)
        name, why = self.images.names[place], self.unreadable[place]
        raise UserError(f"None of {n} images can be read, {name} ({why}) among them; mend them.")


class Squares(Reader):
    """Reads images as squares of a size in px."""

    def __init__(self, images: ImageSource, size: int, seed: int, share: Share = ALONE):
        super().__init__(images, seed, share)
        self.size = size

    def read(self, first: Request, requests: list[Request]) -> tuple[list[Tensor], list[int]]:
        found = [self.square(*request) for request in requests]
        return [torch.cat([pixels for _, pixels in found])], [place for place, _ in found]

    def square(self, epoch: int, place: int) -> tuple[int, Tensor]:
        """Return the place of an image, or of one that stands in for it, and its pixels [1, 3, size, size]."""
        for other in self.candidates(epoch, place):
            pixels, unreadable, seen = self.images.read([other], self.size)
            self.unreadable |= unreadable
            self.seen |= seen
            if len(pixels):
                return other, pixels
        raise AssertionError  # candidates raise before they end


class Crops(Reader):
    """Makes random resized crops, of each view of a batch.

    A picture is decoded once for all of its views.
    """

    def __init__(self, images: ImageSource, size: int, pipelines: Sequence[Pipeline], seed: int, share: Share = ALONE):
        super().__init__(images, seed, share)
        self.size, self.pipelines = size, pipelines

    def read(self, first: Request, requests: list[Request]) -> tuple[list[Tensor], list[int]]:
        rows = [self.opened(*request) for request in requests]
        chosen = [next(row) for row in rows]
        boxes, flips = self.draw(first, chosen)
        made = [
            torch.empty(len(requests), self.images.channels, size, size, dtype=torch.uint8)
            for _, size in self.pipelines
        ]
        for i, row in enumerate(rows):
            while not self.cut(*chosen[i], [box[i] for box in boxes], [views[i] for views in made]):
                chosen[i] = next(row)
                boxes, _ = self.draw(first, chosen)  # the same numbers: the other rows keep their boxes
        views = [torch.where(flip[:, None, None, None], v.flip(-1), v) for v, flip in zip(made, flips, strict=True)]
        return views, [place for place, _ in chosen]

    def opened(self, epoch: int, place: int) -> Iterator[tuple[int, Opened]]:
        """Yield an image with its place, then those that stand in for it."""
        for other in self.candidates(epoch, place):
            try:
                image = self.images.open(other, self.size)
            except UnreadableImage as error:
                self.unreadable[other] = error.reason
                continue
            if other not in self.seen and image.stamp is not None:
                self.seen[other] = image.stamp
            yield other, image

    def draw(self, first: Request, chosen: list[tuple[int, Opened]]) -> tuple[list[list[list[float]]], list[Tensor]]:
        """Draw boxes and flips of a batch, for each view; an image's size changes its own box alone."""
        height, width = (torch.tensor([getattr(p, side) for _, p in chosen]) for side in ("height", "width"))
        draw = Draw(len(chosen), Generator().manual_seed(hash((self.seed, *first)) & (2**63 - 1)), self.share)
        boxes = [draw_boxes(draw, height, width, view).tolist() for view, _ in self.pipelines]
        return boxes, [draw.chance(view.flip) for view, _ in self.pipelines]

    def cut(self, place: int, image: Opened, boxes: list[list[float]], views: list[Tensor]) -> bool:
        """Decode an image and fill its views with its crops; return False where that cannot be."""
        try:
            pixels = image.copy()
        except UnreadableImage as error:
            self.unreadable[place] = error.reason
            return False
        down, across = pixels.shape[1] / image.height, pixels.shape[2] / image.width
        for view, box in zip(views, boxes, strict=True):
            top, left, h, w = (round(x * part) for x, part in zip(box, (down, across) * 2, strict=True))
            cut = pixels[None, :, top : top + max(h, 1), left : left + max(w, 1)]
            view.copy_(F.interpolate(cut, view.shape[-2:], mode="bilinear", antialias=True)[0])
        return True
