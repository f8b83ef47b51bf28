"""Batches of views for training: from tensors on the device, or from a stream of files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Generator, Tensor

from ..core.pairs import full_views
from ..data.splits import Dataset
from ..processes import collectives
from ..recipes.recipe import Recipe
from .augment import Draw, Drawn, Finish, develop, draw_view, sent
from .given import Augment, view_by
from .readers import Crops, Pipeline, Squares, in_turn
from .streams import Stream

DEVICE_SHARE = 0.5  # of a GPU's free memory, for a resident set; the rest is for the model and its steps


def pipelines(recipe: Recipe, size: int, channels: int = 3) -> list[Pipeline]:
    """Return the views of a recipe in order: the full ones, first and second in turn, then the local crops.

    Of images that have not three colours, they are without the operations that need these.
    """
    views = recipe.views
    if channels != 3:
        first, second, local = (
            replace(view, saturation=0.0, hue=0.0, grayscale=0.0) for view in (views.first, views.second, views.local)
        )
        views = replace(views, first=first, second=second, local=local)
    turns = [((views.first, views.second)[i % 2], size) for i in range(full_views(recipe))]
    return turns + [(views.local, min(views.local_size, size))] * views.local_crops


def order(n: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Return an epoch's batches: n places shuffled by seed and epoch alone, without the incomplete last batch."""
    generator = Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(n, generator=generator)
    return [shuffled[i : i + batch_size] for i in range(0, n - batch_size + 1, batch_size)]


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """Images where batches are made; on the host still where a GPU would have too little memory left for training."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.nbytes > DEVICE_SHARE * free:
            return images
    try:
        return images.to(device)
    except torch.OutOfMemoryError:  # others take of it, too
        return images


def send_rows(images: Tensor, places: Tensor, device: torch.device) -> Tensor:
    """Return images of the host on a GPU: gathered in pinned memory, so that nobody waits for their way."""
    gathered = torch.empty((len(places), *images.shape[1:]), dtype=images.dtype, pin_memory=True)
    torch.index_select(images, 0, places, out=gathered)
    return gathered.to(device, non_blocking=True)


class Batches:
    """Batches give ``(index, views)`` of an epoch, this process's part: whose the views are, and they, as float32.

    Crops out of whole images (`Dataset.whole`) depend on seed, epoch and batch; all else is drawn here, from
    ``generator``. Neither depends on how many processes share a batch, nor on where the images are kept. A person's own
    ``augment`` is given squares of the view's size, once a view, and draws as it likes.
    """

    def __init__(
        self,
        data: Dataset,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        workers: int = 0,
        *,
        augment: Augment | None = None,
    ):
        self.data, self.device, self.seed = data, device, seed
        self.batch_size, self.share = recipe.training.batch_size, collectives.share()
        self.pipelines = pipelines(recipe, data.size, data.channels)
        self.generator = Generator().manual_seed(seed + 1)
        mean, std = (torch.tensor(x, device=device)[:, None, None] for x in (data.mean, data.std))
        self.finish = Finish(mean, std, torch.contiguous_format if device.type == "mps" else torch.channels_last)
        images, self.resident, self.stream, self.augment = data.train.images, None, None, augment
        self.crops = data.whole is not None and augment is None
        if self.crops:
            self.stream = Stream(Crops(images, data.size, self.pipelines, seed, self.share), workers, device)
        elif images.pixels is not None:
            self.resident = on_device(images.pixels, device)
        else:
            self.stream = Stream(Squares(images, data.size, seed, self.share), workers, device)

    def __len__(self) -> int:
        return len(self.data.train) // self.batch_size

    def epoch(
        self, epoch: int, skip: int = 0, stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield the batches of an epoch, less the first ``skip``; none that does not come where ``stop`` says so."""
        batches = order(len(self.data.train), self.batch_size, self.seed, epoch)[skip:]
        size = self.data.size
        if self.resident is not None:
            readable = {*self.data.train.readable_places().tolist()} if self.data.unreadable.reasons else None
            for places in batches:
                own = collectives.own_rows(places)
                own = own if readable is None else self.stood_in(own, epoch, readable)
                index, drawn = self.draw(own, (size, size))
                near = self.resident.device.type == self.device.type
                images = self.resident[index] if near else send_rows(self.resident, own, self.device)
                yield index, self.developed([images] * len(drawn), drawn)
        else:
            train = self.data.train
            for batch in cast(Stream, self.stream).epoch(epoch, batches, stop):
                train.unreadable.reasons |= {train.images.paths[place]: why for place, why in batch.unreadable}
                train.images.learn(batch.seen)
                there = [images.to(self.device, non_blocking=True) for images in batch.images]
                index, drawn = self.draw(batch.places, None if self.crops else (size, size))
                yield index, self.developed(there if self.crops else there * len(drawn), drawn)

    def stood_in(self, places: Tensor, epoch: int, readable: set[int]) -> Tensor:
        """Return places of images in memory, where others stand in for those that are not among the readable."""
        n = len(self.data.train)
        rows = (in_turn(self.seed, epoch, place, n) for place in places.tolist())
        return torch.tensor([next(one for one in row if one in readable) for row in rows])

    def draw(self, index: Tensor, shape: tuple[int, int] | None = None) -> tuple[Tensor, list[Drawn]]:
        """Return places and what is random in the views of their images, or of their crops, all on the device."""
        draw = Draw(len(index), self.generator, self.share)
        return sent(index, [draw_view(draw, view, shape) for view, _ in self.pipelines], self.device)

    def developed(self, images: Sequence[Tensor], drawn: Sequence[Drawn]) -> list[Tensor]:
        """Return the views of images as they were drawn, or as a person's own function makes them."""
        if self.augment is not None:
            return [view_by(self.augment, some, self.data.size, self.finish) for some in images]
        sizes = [size for _, size in self.pipelines]
        return [develop(*one, self.finish) for one in zip(images, drawn, sizes, strict=True)]
