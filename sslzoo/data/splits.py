"""What a data set is: splits of images with labels, at one image size."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..tools.errors import UserError
from ..tools.labels import asking, foreign, known, named
from .decoded.ranges import Range
from .images import ImageSource
from .listed.paths import texts_of
from .unreadable import UnreadableImages

MAX_VIEW_SIZE = 224  # px of a view, unless asked for more
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Split:
    """Holds images with labels and the group [N] that each belongs to.

    Labels are classes, int64 [N], or several a row, int8 [N, C] of 0 and 1; of an image without, they are -1.
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
        if self.labels is None or (places := known(self.labels.numpy())).all():
            return self
        return self.take(torch.from_numpy(places.nonzero()[0]))

    @property
    def asking(self) -> Tensor:
        """Which images [N] can be kNN's queries, where there are labels: of several, a row without any has none."""
        assert self.labels is not None
        return torch.from_numpy(asking(self.labels.numpy()))

    def readable_places(self) -> Tensor:
        """Return the places of the images that are not known as unreadable; of files, after they were read."""
        paths = self.images.paths
        if not paths:
            return torch.arange(len(self))
        if not (unreadable := {*map(str, self.unreadable.reasons)}):
            return torch.arange(len(self))
        return torch.tensor([i for i, text in enumerate(texts_of(paths)) if text not in unreadable], dtype=torch.long)

    def readable(self) -> "Split":
        """Return the images that are not known as unreadable."""
        places = self.readable_places()
        return self if len(places) == len(self) else self.take(places)


@dataclass(frozen=True)
class Shapes:
    """What files of images look like, in px: their usual width and height, and their usual shorter side.

    ``equal`` says that all are squares of one size.
    """

    width: int
    height: int
    shorter: int
    equal: bool

    def squares(self, size: int) -> bool:
        """Return whether views of a size are cut out of squares of that size, and not out of whole images.

        They are where these are squares of about the view's size, all of one size.
        """
        return self.equal and self.width <= 1.5 * size


@dataclass(frozen=True)
class Dataset:
    """A data set; ``bank`` is kNN's labelled training split, ``own`` says that a person gave it.

    ``size`` is that of a view in px. ``val`` are the queries of kNN while a run goes on, where the data have a split
    for it beside the test split. ``names`` are those of the classes 0, 1, ..., or of the columns of labels; there are
    none where nobody gave them. ``shapes`` are those of files. ``shown`` are the values that are black and white in
    images of more than 8 bits, where somebody says so. ``complete`` are the validation and the test split as they came,
    where some of their images have no label, which kNN leaves out.
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
    names: tuple[str, ...] = ()
    shapes: Shapes | None = None
    shown: Range | None = None
    val: Split | None = None
    complete: Mapping[str, Split] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """The number of channels of each image."""
        return self.train.images.channels

    @property
    def whole(self) -> tuple[int, int] | None:
        """The usual width and height in px of files out of whose whole images views are cut; else None."""
        shapes = self.shapes
        return None if shapes is None or shapes.squares(self.size) else (shapes.width, shapes.height)

    @property
    def splits(self) -> dict[str, Split]:
        """Return the splits that there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    @property
    def every_image(self) -> dict[str, Split]:
        """Return the splits by name with all of their images, those without a label too."""
        found = {**self.splits, **self.complete}
        return {name: found[name] for name in ("train", "val", "test") if name in found}

    @property
    def unreadable(self) -> UnreadableImages:
        """Return the images that could not be read so far, of all splits."""
        return self.train.unreadable

    @property
    def labelled(self) -> bool:
        """Return whether kNN has what it needs."""
        return self.bank.labels is not None and self.test is not None and self.test.labels is not None

    @property
    def class_names(self) -> dict[int, str]:
        """Return a name of its own for each class that has images, by number, which is its name where it has none."""
        both = [split.labels for split in (self.bank, self.test) if split is not None and split.labels is not None]
        numbers = [torch.arange(x.shape[1]) if x.ndim == 2 else x for x in both]
        found = {i: named(i, self.names) for i in sorted(set(torch.cat(numbers).tolist()) if numbers else ())}
        often = Counter(found.values())
        return {i: f"{name} ({i})" if often[name] > 1 else name for i, name in found.items()}

    @property
    def scored(self) -> int:
        """Return the number of images of kNN's bank and of its queries."""
        return len(self.bank) + len(self.test or ())

    def held_out(self, seed: int) -> Tensor:
        """Return which of the bank [N] are in a seeded tenth of its groups, of those that have a query."""
        groups = torch.arange(len(self.bank)) if self.bank.groups is None else self.bank.groups
        names = torch.unique(groups if self.bank.labels is None else groups[self.bank.asking])
        chosen = names[
            torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[: max(len(names) // 10, 1)]
        ]
        return torch.isin(groups, chosen)

    def validation(self, seed: int) -> tuple[Split, Split]:
        """Return the bank and the validation split, or the bank less a seeded tenth of its groups, and this tenth."""
        if self.val is not None:
            return self.bank, self.val
        held = self.held_out(seed)
        return self.bank.take((~held).nonzero().squeeze(1)), self.bank.take(held.nonzero().squeeze(1))


def hold_out(train: Split, hashes: list[bytes]) -> tuple[Split, Split, str]:
    """Return train and test where no test split came along, and a note that says so.

    Every tenth by hash is held out, so that equal images stay together; images without a label are trained on. Raises
    `UserError` where that leaves a split without images.
    """
    held = torch.tensor([int.from_bytes(h[:4], "big") % 10 == 0 for h in hashes])
    of = len(held)
    if train.labels is not None:
        there = torch.from_numpy(known(train.labels.numpy()))
        held, of = held & there, int(there.sum())
    if not held.any() or int(held.sum()) == of:
        different = len({*hashes})
        kinds = f" (only {different} of them different)" if different < len(hashes) else ""
        if of < len(train):
            raise UserError(
                f"{of} labelled images of {len(train)} are too few to hold out a test split; give one with labels "
                "(--test), label more, or leave the labels out."
            )
        raise UserError(
            f"{len(train)} image{' is' if len(train) == 1 else 's are'} too few to hold out a test split{kinds}; add a "
            "test/ split or more images."
        )
    which = "images" if of == len(held) else "labelled images"
    note = f"no test split: {int(held.sum())} of {of} {which} are held out by their hash"
    return train.take((~held).nonzero().squeeze(1)), train.take(held.nonzero().squeeze(1)), note


def count_classes(*splits: Split | None) -> int:
    """Return the number of classes over all splits, or of columns of labels."""
    labels = [split.labels for split in splits if split is not None and split.labels is not None]
    if labels and labels[0].ndim == 2:
        return labels[0].shape[1]
    return len(torch.unique(torch.cat(labels))) if labels else 0


def lacking(bank: Split, test: Split | None) -> str | None:
    """Return a sentence where images of the test split are of classes that the bank lacks; None elsewhere."""
    if test is None or bank.labels is None or test.labels is None:
        return None
    return foreign(bank.labels.numpy(), test.labels[test.asking].numpy())


# ---- leaks -----------------------------------------------------------------------------------------------------------


def leaked(dataset: Dataset) -> int:
    """Return how many images of the test split are in kNN's bank too, by the hash of their content.

    Images that are known as unreadable are none of either.
    """
    if dataset.test is None:
        return 0
    there = {*dataset.bank.readable().images.digests()}
    return sum(digest in there for digest in dataset.test.readable().images.digests())


def leak(found: int, dataset: Dataset) -> str | None:
    """Return a sentence on so many images that are in both splits; None where there are none."""
    if not found or dataset.test is None:
        return None
    of = len(dataset.test.readable_places())
    are, them = ("is", "it") if found == 1 else ("are", "them")
    return (
        f"{found:,} of {of:,} test images {are} in the training split too (equal content): kNN is too high by that; "
        f"remove {them} from one of the two."
    )
