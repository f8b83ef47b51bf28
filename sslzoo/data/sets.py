"""Data sets: the embedded digits, torchvision's by name, a folder of images, or an .npz."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..recipes import plugins
from ..tools.bounds import SMALLEST
from ..tools.errors import UserError, did_you_mean, listing
from ..tools.labels import NOBODY
from . import digits
from .decoded.ranges import reading
from .downloads import TORCHVISION
from .folders import AUTO, MEMORY, NEVER, held, measured, of_listing, read_places, sized
from .formats import items, kinds
from .formats.arrays import from_arrays, own_arrays
from .given.options import DataOptions
from .home import count
from .images import MemoryImages
from .layout import NO_LABELS, ONE_CLASS
from .picture import square
from .splits import Dataset, Split, count_classes, lacking

KNOWN = {  # size in px and training images of the sets that have names
    "digits": (32, 5748),
    "cifar10": (32, 50_000),
    "cifar100": (32, 50_000),
    "stl10": (96, 105_000),
    "fashion-mnist": (32, 60_000),
}


def load(
    name: str,
    image_size: int | None = None,
    limit: int | None = None,
    memory: str = AUTO,
    range: str | None = None,
) -> Dataset:
    """Load a data set by name, folder, .npz file or a format of `kinds`. Raises `UserError`.

    ``image_size`` sets the view's size in px (by default the images' own, at most 224); ``memory`` says whether images
    of files are kept in memory: "always", "never", or where they fit ("auto"). Nothing else depends on it. ``limit``
    is the number of training images, for a quick try; ``range`` are the values that are black and white in images of
    more than 8 bits, as in "0,4095".
    """
    return read(DataOptions(name, limit=limit, image_size=image_size, range=range, memory=memory))


def read(given: DataOptions, squares: bool = True) -> Dataset:
    """Load the data set that options name. Raises `UserError`.

    Without ``squares`` images that are in memory stay as they are, for whoever cuts them otherwise.
    """
    check_memory(given.memory)
    found = find(given)
    return ready(found, given.image_size or found.size, given.memory, squares)


def is_of_files(name: str) -> bool:
    """Return whether data are images in files that are read one by one: a folder, or a format of these."""
    found = kinds.find(name)
    return os.path.isdir(os.path.expanduser(name)) or (found is not None and found[0].reads_files)


def check_memory(memory: str) -> None:
    """Raise `UserError` for what --memory cannot be."""
    if memory not in MEMORY:
        raise UserError(f"--memory cannot be {memory!r}; it is {listing(MEMORY)}.")


def check_alone(given: DataOptions) -> None:
    """Raise `UserError` for options of folders beside data that have splits and labels of their own."""
    if given.asked:
        own = f"{given.place} has splits and labels of its own"
        raise UserError(f"{given.asked[0]} is for images in files, and {own}.")


def find(given: DataOptions | str) -> Dataset:
    """Return the data set that options name, its images as they are, of which `ready` makes views of a size.

    No files are read but to find out what they are. With a limit only the first N training images of a seeded shuffle
    are kept, for a quick try. Raises `UserError`.
    """
    given = DataOptions(given) if isinstance(given, str) else given
    given.check()
    shown, name, limit = reading(given.range, given.channels), given.place, given.limit
    path = Path(os.path.expanduser(name))
    if limit is not None and limit < 1:
        raise UserError(f"--limit cannot be {limit}; it is at least 1.")
    if name == "digits":
        dataset = from_arrays(name, {**digits.load(), "classes": [*"0123456789"]}, shown=shown)
    elif name in TORCHVISION:
        dataset = from_arrays(name, TORCHVISION[name](), shown=shown)
    elif (own_data := plugins.data(name)) is not None:
        dataset = from_arrays(name, plugins.called(f"data {name}", lambda: dict(own_data())), shown=shown)
    elif (items_given := items.listed(name, shown)) is not None:
        check_alone(given)
        dataset = of_listing(items_given)
    elif name and kinds.find(name) is not None:
        dataset = kinds.dataset(given, shown)
    elif name and os.path.isdir(path):
        dataset = read_places(given, shown, kinds.listed)
    elif path.suffix in FORMATS:
        dataset = from_arrays(path.stem, FORMATS[path.suffix](path), own=True, shown=shown)
    elif given.train is not None:
        raise UserError(f"There is no folder {path}; give --train a folder of images, or files of a format.")
    else:
        known = ["digits", *TORCHVISION]
        raise UserError(
            f"There is no data {name!r}{did_you_mean(name, known)}; give {listing(known)}, a folder, an .npz file, "
            f"{listing(one.words for one in kinds.FORMATS)}."
        )
    if not dataset.train.images.paths:
        check_alone(given)
    dataset = _scored(dataset)
    return dataset if limit is None else _limited(dataset, limit)


def ready(dataset: Dataset, size: int, memory: str = AUTO, squares: bool = True) -> Dataset:
    """Return a data set that was found as one whose views have a size in px, with the mean and deviation of its pixels.

    ``memory`` is that of `load`, and ``squares`` that of `read`. Raises `UserError`.
    """
    check_size(dataset, size)
    if dataset.train.images.paths:
        return held(measured(sized(dataset, size)), memory)
    notes = ("arrays are in memory, whatever --memory says",) if memory == NEVER and dataset.own and squares else ()
    if not squares:
        return replace(_normalised(dataset), size=size)
    made: dict[int, Split] = {}  # of one split that plays two parts, once

    def squared(split: Split) -> Split:
        pixels = split.images.pixels
        assert pixels is not None  # of arrays
        return made.setdefault(id(split), replace(split, images=MemoryImages(square(pixels, size))))

    train, bank = squared(dataset.train), squared(dataset.bank)
    val, test = (split and squared(split) for split in (dataset.val, dataset.test))
    complete = {name: squared(split) for name, split in dataset.complete.items()}
    dataset = replace(dataset, train=train, bank=bank, val=val, test=test, complete=complete, size=size)
    return replace(_normalised(dataset), notes=(*dataset.notes, *notes))


def check_size(dataset: Dataset, size: int) -> None:
    """Raise `UserError` for views, of a size in px, that are too small."""
    if size < SMALLEST:
        raise UserError(f"{dataset.name} has images of {size} px; give --image-size {SMALLEST} or more.")


def few(dataset: Dataset, n: int) -> Dataset:
    """Return a data set that was found with at most n of its training images alone, drawn as ``--limit`` does."""
    train = _first_rows(dataset.train, n)
    return replace(dataset, train=train, bank=train, val=None, test=None, notes=())


def _scored(dataset: Dataset) -> Dataset:
    """Return the data set with labelled images alone as kNN's bank and queries; all of the others train.

    A negative label is none, as in STL-10 and in solo-learn's lists. What else there is to say of the labels of the two
    splits becomes a note.
    """
    bank, test = dataset.bank.labelled(), dataset.test.labelled() if dataset.test else None
    val = dataset.val.labelled() if dataset.val is not None and dataset.val.labels is not None else None
    val = val if val and bool(val.asking.any()) else None
    scored = {"val": val, "test": test}
    came = {"val": dataset.val, "test": dataset.test}
    complete = {name: one for name, one in came.items() if one is not None and one is not scored[name]}
    dataset = replace(dataset, val=val, complete=complete)
    nameless = len(dataset.bank) - len(bank) + len(dataset.test or ()) - len(test or ())
    notes = []
    if nameless:
        notes.append(f"without a label, neither in kNN's bank nor among its queries: {count(nameless, 'image')}")
        if dataset.bank.labels is not None and dataset.bank.labels.ndim == 2:
            notes[0] += "; each has a gap or a negative cell in some column, where 0 says that the label is absent"
    labelled = [split for split in (bank, test) if split is not None and split.labels is not None]
    silent = [int((~split.asking).sum()) for split in labelled]
    parts = [(word, split) for word, split in (("training", bank), ("test", test)) if split is not None]
    nobody = [word for word, split in parts if split.labels is None or not split.asking.any()]
    if nobody and not any("kNN is left out" in note for note in dataset.notes):
        notes.append(f"{NOBODY} {' or the '.join(nobody)} split has a label")
        notes.append(NO_LABELS)
    if any(few == len(split) for few, split in zip(silent, labelled, strict=True)):  # or none at all
        train = replace(dataset.train, labels=None)
        notes = [*dataset.notes, *notes]
        dataset = replace(dataset, complete={name: one for name, one in came.items() if one is not None}, classes=0)
        return replace(dataset, train=train, bank=train, val=None, test=None, names=(), notes=tuple(notes))
    if any(silent):
        notes.append(f"with none of the labels, in kNN's bank but not among its queries: {count(sum(silent), 'image')}")
    notes += [sentence] if (sentence := lacking(bank, test)) else []
    classes = count_classes(bank, test)
    notes += [ONE_CLASS] if classes == 1 and ONE_CLASS not in dataset.notes else []
    if not notes:
        return dataset
    return replace(dataset, bank=bank, test=test, classes=classes, notes=(*dataset.notes, *notes))


def _limited(dataset: Dataset, limit: int) -> Dataset:
    """Return the data set with the first training images of a seeded shuffle, so many."""

    train = _first_rows(dataset.train, limit)
    bank = train if dataset.bank is dataset.train else _first_rows(dataset.bank, limit)
    if train.images.paths:
        others = [one for name, one in dataset.splits.items() if name != "train"]
        dataset.unreadable.restrict_to(name for one in (train, *others) for name in one.images.names)
    return replace(dataset, train=train, bank=bank, notes=(*dataset.notes, f"{len(train)} training images (--limit)"))


def _first_rows(split: Split, n: int) -> Split:
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split.take(order[:n])


def _normalised(dataset: Dataset) -> Dataset:
    """Return a data set in memory with the mean and deviation of its own training pixels."""
    images = dataset.train.images.pixels
    assert images is not None  # of arrays
    pixels = images[:: max(len(images) // 10_000, 1)].float() / 255
    mean, std = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3)).clamp(min=1e-3)
    return replace(dataset, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


FORMATS: dict[str, Callable[[Path], dict[str, Any]]] = {".npz": own_arrays}  # of a person's file, by its suffix
