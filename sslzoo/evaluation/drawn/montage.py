"""A montage: strips of an embedding's images, each below its heading."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..embedding import Embedding
from .gallery import Tile, pictures, png


@dataclass(frozen=True)
class Strip:
    """Holds a heading, the rows of an embedding [M] that are shown, counted over all splits, and their names."""

    heading: str
    rows: npt.NDArray[np.int64]
    names: Sequence[str]


def montage(embedding: Embedding, strips: Sequence[Strip]) -> bytes:
    """Return a PNG of strips, each image above its name."""
    shown = []
    for strip in strips:
        images = images_of(embedding, strip.rows)
        tiles = [Tile(image, "", name=name) for image, name in zip(images, strip.names, strict=True)]
        shown.append((strip.heading, tiles))
    return png(shown)


def images_of(embedding: Embedding, rows: npt.NDArray[np.int64]) -> list[Tensor]:
    """Return the images of rows, counted over the splits train, val and test, uint8 [3, size, size]."""
    dataset = embedding.images
    assert dataset is not None
    found: dict[int, Tensor] = {}
    start = 0
    for split in dataset.splits.values():
        part = split.readable()
        mine = [int(row) for row in rows if start <= row < start + len(part)]
        if mine:
            found |= dict(zip(mine, pictures(part, [row - start for row in mine], dataset.size), strict=True))
        start += len(part)
    return [found[int(row)] for row in rows]
