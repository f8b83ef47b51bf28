"""Batches of views for training: from tensors on the device, or streamed from files by worker processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.functional import pil_to_tensor

from .errors import from_workers
from .images import load_image
from .pairs import full_views
from .recipe import Recipe
from .schema import View
from .splits import Dataset
from .views import Draw, Finish, augment, draw_boxes, photometric

Pipeline = tuple[View, int]  # an augmentation, and the size of its view in px


def pipelines(recipe: Recipe, size: int) -> list[Pipeline]:
    """The views of a recipe in order: the full ones, first and second in turn, then the local crops."""
    views = recipe.views
    turns = [((views.first, views.second)[i % 2], size) for i in range(full_views(recipe))]
    return turns + [(views.local, min(views.local_size, size))] * views.local_crops


def order(n: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """An epoch's batches: n places shuffled by seed and epoch alone, the incomplete last batch left out."""
    generator = Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(n, generator=generator)
    return [shuffled[i : i + batch_size] for i in range(0, n - batch_size + 1, batch_size)]


class Batches:
    """Gives ``(index, views)`` of an epoch; views are normalised float32 on the device.

    Augmentation owns ``generator`` where it runs on the device; crops made by workers depend on seed, epoch and place.
    """

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device, seed: int, workers: int = 0):
        self.data, self.device, self.seed, self.workers = data, device, seed, workers
        self.batch_size = recipe.training.batch_size
        self.pipelines = pipelines(recipe, data.size)
        self.generator = Generator().manual_seed(seed + 1)
        mean, std = (torch.tensor(x, device=device)[:, None, None] for x in (data.mean, data.std))
        self.finish = Finish(mean, std, torch.contiguous_format if device.type == "mps" else torch.channels_last)
        images = data.train.images
        self.resident = images.to(device) if isinstance(images, Tensor) else None

    def __len__(self) -> int:
        return len(self.data.train) // self.batch_size

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The batches of an epoch, less the first ``skip``."""
        batches = order(len(self.data.train), self.batch_size, self.seed, epoch)[skip:]
        if self.resident is not None:
            for index in batches:
                index = index.to(self.device)
                images = self.resident[index]
                yield index, [augment(images, view, size, self.generator, self.finish) for view, size in self.pipelines]
            return
        files = Crops(cast(tuple[Path, ...], self.data.train.images), self.pipelines, self.seed, epoch)
        loader = DataLoader(
            files,
            batch_sampler=[index.tolist() for index in batches],
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if self.workers and self.device.type != "cpu" else None,
        )
        for index, crops in zip(batches, from_workers(loader), strict=True):
            yield (
                index.to(self.device),
                [
                    photometric(crop.to(self.device, non_blocking=True), view, self.generator, self.finish)
                    for crop, (view, _) in zip(crops, self.pipelines, strict=True)
                ],
            )


class Crops(TorchDataset[list[Tensor]]):
    """The random resized crops of one file's views, uint8; run by worker processes."""

    def __init__(self, paths: tuple[Path, ...], pipelines: list[Pipeline], seed: int, epoch: int):
        self.paths, self.pipelines, self.seed, self.epoch = paths, pipelines, seed, epoch

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> list[Tensor]:
        image = load_image(self.paths[place])
        generator = Generator().manual_seed(hash((self.seed, self.epoch, place)) & (2**63 - 1))
        draw = Draw(1, generator)
        views = []
        for view, size in self.pipelines:
            top, left, height, width = draw_boxes(draw, image.height, image.width, view)[0].tolist()
            box = (left, top, left + width, top + height)
            cropped = pil_to_tensor(image.crop(box).resize((size, size), Image.Resampling.BILINEAR))
            views.append(cropped.flip(-1) if bool(draw.chance(view.flip)) else cropped)
        return views
