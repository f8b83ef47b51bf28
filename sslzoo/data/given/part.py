"""One part of a data set, as a folder or a file gives it: places of images in order, and the label of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...tools.errors import UserError
from ..packed.index import Index

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Holds the paths of images in their order, and their labels.

    ``labels`` are places in ``names``, int64 [N], or several each, int8 [N, C], with -1 of an image without; None where
    nobody says anything of labels. ``packed`` are `FileImages`' own.
    """

    texts: Sequence[str]
    labels: Array | None = None
    names: Sequence[str] = field(default=())
    packed: tuple[Index, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, places: Array) -> "Part":
        """Return the images at these places."""
        texts = [self.texts[place] for place in places.tolist()]
        return replace(self, texts=texts, labels=None if self.labels is None else self.labels[places])

    def labelled_as(self, names: Sequence[str]) -> "Part":
        """Return the images with their labels as places in other names, which have all of these."""
        if self.labels is None or self.labels.ndim == 2 or [*self.names] == [*names]:
            return replace(self, names=names)
        place = {name: number for number, name in enumerate(names)}
        numbers = np.array([place[name] for name in self.names] + [-1], np.int64)
        return replace(self, labels=numbers[self.labels], names=names)

    def joined(self, other: "Part") -> "Part":
        """Return the images of both, of which the other's have no labels."""
        labels = self.labels
        if labels is not None:
            none = np.full((len(other), *labels.shape[1:]), -1, labels.dtype)
            labels = np.concatenate([labels, none])
        return replace(self, texts=[*self.texts, *other.texts], labels=labels, packed=self.packed + other.packed)


def check_alike(parts: Mapping[str, Part]) -> None:
    """Raise `UserError` where one part has a class an image, and another several labels, or others."""
    shapes = {
        split: (part.labels.shape[1:], tuple(part.names) if part.labels.ndim == 2 else ())
        for split, part in parts.items()
        if part.labels is not None
    }
    if len({*shapes.values()}) > 1:
        said = ", ".join(f"{split} {shape[0] or 'one'}" for split, (shape, _) in shapes.items())
        raise UserError(f"The splits have different labels ({said} an image); give all of them the same.")
