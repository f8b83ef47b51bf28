"""What a data set is: splits of images with labels, at one image size."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tools.errors import UserError
from .depth import Range
from .images import ImageSource
from .unreadable import UnreadableImages

MAX_VIEW_SIZE = 224  # px of a view, unless asked for more
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Split:
    """Holds images with labels [N] and the group [N] that each belongs to.

    ``unreadable`` has those that could not be read so far, of all files that came with these.
    """

    images: ImageSource
    labels: Tensor | None = None
    groups: Tensor | None = None
    unreadable: UnreadableImages = field(default_factory=UnreadableImages, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> "Split":
        """Return the images at these places, with what is known of them."""
        labels, groups = (None if x is None else x[index] for x in (self.labels, self.groups))
        return Split(self.images.take(index), labels, groups, self.unreadable)

    def labelled(self) -> "Split":
        """Return the images that have a label, which -1 is none of."""
        if self.labels is None or bool((self.labels >= 0).all()):
            return self
        return self.take((self.labels >= 0).nonzero().squeeze(1))

    def readable_places(self) -> Tensor:
        """Return the places of the images that are not known as unreadable; of files, after they were read."""
        paths = self.images.paths
        if not paths:
            return torch.arange(len(self))
        reasons = self.unreadable.reasons
        return torch.tensor([i for i, path in enumerate(paths) if path not in reasons], dtype=torch.long)

    def readable(self) -> "Split":
        """Return the images that are not known as unreadable."""
        places = self.readable_places()
        return self if len(places) == len(self) else self.take(places)


@dataclass(frozen=True)
class Dataset:
    """A data set at one image size; ``bank`` is kNN's labelled training split, ``own`` says that a person gave it.

    ``shown`` are the values that are black and white in images of more than 8 bits, where somebody says so.
    """

    name: str
    train: Split
    bank: Split
    test: Split | None
    size: int
    classes: int = 0
    own: bool = False
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    notes: tuple[str, ...] = field(default_factory=tuple)
    shown: Range | None = None

    @property
    def unreadable(self) -> UnreadableImages:
        """Return the images that could not be read so far, of all splits."""
        return self.train.unreadable

    @property
    def labelled(self) -> bool:
        """Return whether kNN has what it needs."""
        return self.bank.labels is not None and self.test is not None and self.test.labels is not None

    @property
    def scored(self) -> int:
        """Return the number of images of kNN's bank and of its queries."""
        return len(self.bank) + len(self.test or ())

    def held_out(self, seed: int) -> Tensor:
        """Return which of the bank [N] are in a seeded tenth of its groups."""
        groups = torch.arange(len(self.bank)) if self.bank.groups is None else self.bank.groups
        names = torch.unique(groups)
        chosen = names[
            torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[: max(len(names) // 10, 1)]
        ]
        return torch.isin(groups, chosen)

    def validation(self, seed: int) -> tuple[Split, Split]:
        """Return the bank less a seeded tenth of its groups, and this tenth as its queries."""
        held = self.held_out(seed)
        return self.bank.take((~held).nonzero().squeeze(1)), self.bank.take(held.nonzero().squeeze(1))


def hold_out(train: Split, hashes: list[bytes]) -> tuple[Split, Split, str]:
    """Return train and test where no test split came along, and a note that says so.

    Every tenth by hash is held out, so that equal images stay together. Raises `UserError` where that leaves a split
    without images.
    """
    held = torch.tensor([int.from_bytes(h[:4], "big") % 10 == 0 for h in hashes])
    if not held.any() or held.all():
        raise UserError(f"{len(train)} images are too few to hold out a test split; add a test/ split or more images.")
    note = f"no test split: {int(held.sum())} of {len(held)} images are held out by their hash"
    return train.take((~held).nonzero().squeeze(1)), train.take(held.nonzero().squeeze(1)), note


def count_classes(*splits: Split | None) -> int:
    """Return the number of classes over all splits."""
    labels = [split.labels for split in splits if split is not None and split.labels is not None]
    return len(torch.unique(torch.cat(labels))) if labels else 0
