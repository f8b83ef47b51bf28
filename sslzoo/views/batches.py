"""Batches of views for training: from tensors on the device, or from a stream of files."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Generator, Tensor

from ..core.pairs import full_views
from ..data.splits import Dataset
from ..processes import collectives
from ..recipes.recipe import Recipe
from .augment import Draw, Drawn, Finish, develop, draw_view, sent
from .streams import Crops, Pipeline, Stream

DEVICE_SHARE = 0.5  # of a GPU's free memory, for a resident set; the rest is for the model and its steps


def pipelines(recipe: Recipe, size: int) -> list[Pipeline]:
    """Return the views of a recipe in order: the full ones, first and second in turn, then the local crops."""
    views = recipe.views
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

    What is drawn here comes from ``generator``; a stream's crops depend on seed, epoch and batch. Neither depends on
    how many processes share a batch.
    """

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device, seed: int, workers: int = 0):
        self.data, self.device, self.seed = data, device, seed
        self.batch_size, self.share = recipe.training.batch_size, collectives.share()
        self.pipelines = pipelines(recipe, data.size)
        self.generator = Generator().manual_seed(seed + 1)
        mean, std = (torch.tensor(x, device=device)[:, None, None] for x in (data.mean, data.std))
        self.finish = Finish(mean, std, torch.contiguous_format if device.type == "mps" else torch.channels_last)
        images = data.train.images
        pixels, files = images.pixels, images.paths
        self.resident = None if pixels is None else on_device(pixels, device)
        crops = Crops(files, self.pipelines, seed, self.share, images.shown)
        self.stream = Stream(crops, workers, device) if files else None

    def __len__(self) -> int:
        return len(self.data.train) // self.batch_size

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield the batches of an epoch, less the first ``skip``."""
        batches = order(len(self.data.train), self.batch_size, self.seed, epoch)[skip:]
        if self.resident is not None:
            shape = (self.resident.shape[-2], self.resident.shape[-1])
            for places in batches:
                own = collectives.own_rows(places)
                index, drawn = self.draw(own, shape)
                near = self.resident.device.type == self.device.type
                images = self.resident[index] if near else send_rows(self.resident, own, self.device)
                yield index, self.developed([images] * len(drawn), drawn)
        else:
            train = self.data.train
            for crops in cast(Stream, self.stream).epoch(epoch, batches):
                train.unreadable.reasons |= {train.images.paths[place]: why for place, why in crops.unreadable}
                there = [crop.to(self.device, non_blocking=True) for crop in crops.views]
                index, drawn = self.draw(crops.places)
                yield index, self.developed(there, drawn)

    def draw(self, index: Tensor, shape: tuple[int, int] | None = None) -> tuple[Tensor, list[Drawn]]:
        """Return places and what is random in the views of their images, or of their crops, all on the device."""
        draw = Draw(len(index), self.generator, self.share)
        return sent(index, [draw_view(draw, view, shape) for view, _ in self.pipelines], self.device)

    def developed(self, images: Sequence[Tensor], drawn: Sequence[Drawn]) -> list[Tensor]:
        """Return the views of images as they were drawn."""
        sizes = [size for _, size in self.pipelines]
        return [develop(*one, self.finish) for one in zip(images, drawn, sizes, strict=True)]
