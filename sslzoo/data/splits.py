"""What a data set is: splits of images with labels, at one image size."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tools.errors import UserError
from .images import ImageSource
from .unreadable import Bad

MOST = 224  # px of a view, unless asked for more
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Split:
    """Images with labels [N] and the group [N] that each belongs to.

    ``bad`` are those that could not be read so far, of all files that came with these.
    """

    images: ImageSource
    labels: Tensor | None = None
    groups: Tensor | None = None
    bad: Bad = field(default_factory=Bad, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> "Split":
        """The images at these places."""
        labels, groups = (None if x is None else x[index] for x in (self.labels, self.groups))
        return Split(self.images.take(index), labels, groups, self.bad)

    def places(self) -> Tensor:
        """The places of the images that are not known as bad; of files, after they were read."""
        paths = self.images.paths
        if not paths:
            return torch.arange(len(self))
        return torch.tensor([i for i, path in enumerate(paths) if path not in self.bad.reasons], dtype=torch.long)

    def readable(self) -> "Split":
        """The images that are not known as bad."""
        places = self.places()
        return self if len(places) == len(self) else self.take(places)


@dataclass(frozen=True)
class Dataset:
    """A data set at one image size. ``bank`` is the labelled training split of kNN; ``own`` a person's own data."""

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

    @property
    def bad(self) -> Bad:
        """The images that could not be read so far, of all splits."""
        return self.train.bad

    @property
    def labelled(self) -> bool:
        """Whether kNN has what it needs."""
        return self.bank.labels is not None and self.test is not None and self.test.labels is not None

    def validation(self, seed: int) -> tuple[Split, Split]:
        """A seeded tenth of the bank as queries, by group, and the rest as their bank."""
        groups = torch.arange(len(self.bank)) if self.bank.groups is None else self.bank.groups
        names = torch.unique(groups)
        chosen = names[
            torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[: max(len(names) // 10, 1)]
        ]
        held = torch.isin(groups, chosen)
        return self.bank.take((~held).nonzero().squeeze(1)), self.bank.take(held.nonzero().squeeze(1))


def hold_out(train: Split, hashes: list[bytes]) -> tuple[Split, Split, str]:
    """Train and test where no test split came along: every tenth by hash, so that equal images stay together."""
    held = torch.tensor([int.from_bytes(h[:4], "big") % 10 == 0 for h in hashes])
    if not held.any() or held.all():
        raise UserError(f"{len(train)} images are too few to hold out a test split; add a test/ split or more images.")
    note = f"no test split: {int(held.sum())} of {len(held)} images are held out by their hash"
    return train.take((~held).nonzero().squeeze(1)), train.take(held.nonzero().squeeze(1)), note


def count_classes(*splits: Split | None) -> int:
    """The number of classes over all splits."""
    labels = [split.labels for split in splits if split is not None and split.labels is not None]
    return len(torch.unique(torch.cat(labels))) if labels else 0
