"""Folders of images: what size they have, whether they are kept in memory, and reading them into it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from ..processes.launched import local_world_size
from ..tools.errors import UserError
from ..tools.progress import Work
from .contents.copies import Held
from .decoded.bands import opened
from .decoded.ranges import Range
from .given.options import DataOptions
from .given.places import Listing, Read, list_data, list_folder
from .home import count
from .images import FileImages, Opened, Packed
from .layout import NO_LABELS
from .picture import COPY, UnreadableImage, square
from .sample import flat_note, flat_places, is_flat, sample
from .splits import MAX_VIEW_SIZE, Dataset, Shapes, Split, hold_out

AUTO, ALWAYS, NEVER = MEMORY = ("auto", "always", "never")  # whether images of files are kept in memory
MEMORY_SHARE = 0.25  # of what is available, for images that are kept without being asked for
MEASURED = 256  # images whose pixels give a data set's mean and deviation


def read_folder(root: Path, shown: Range | None = None) -> Dataset:
    """Read a folder: train/ and test/ (or val/) with a folder per class, a folder per class, or images at any depth.

    Images that are in no folders of classes have no labels. ``shown`` are the values that are black and white where
    images have more than 8 bits. The size is the images' own, at most 224 px, until `sized` gives another one. Raises
    `UserError`.
    """
    return of_listing(list_folder(root, shown))


def read_places(given: DataOptions, shown: Range | None, read: Read) -> Dataset:
    """Read the places that options name, as `read_folder` does; ``read`` is `list_data`'s. Raises `UserError`."""
    return of_listing(list_data(given, shown, read))


def of_listing(listing: Listing, digests: list[bytes] | None = None) -> Dataset:
    """Return the data set of a folder that was listed, with what is decided about it, and nothing of it in memory.

    ``digests`` are the hashes of its training images where somebody has them. Raises `UserError`.
    """
    train, test, names, notes = listing.train, listing.test, listing.names, listing.notes
    unreadable, shown = train.unreadable, train.images.shown
    if names and test is None:
        digests = train.images.digests() if digests is None else digests
        try:
            train, test, note = hold_out(train, digests)
        except UserError:
            if not sample(train.images.paths, shown, unreadable.reasons).sizes:
                raise unreadable.none_readable(train.images.paths) from None
            raise
        notes.append(note)
    if not names:
        notes.append(NO_LABELS)
    looked_at = sample(train.images.paths, shown, unreadable.reasons)
    notes += looked_at.decisions()
    if not len(sizes := looked_at.shapes):
        raise unreadable.none_readable(train.images.paths)
    width, height = np.median(sizes, axis=0).astype(int).tolist()
    shapes = Shapes(width, height, int(np.median(sizes.min(axis=1))), bool((sizes == sizes[0, 0]).all()))
    return Dataset(
        listing.name, train, train, test, min(shapes.shorter, MAX_VIEW_SIZE), len(names), own=True,
        notes=tuple(notes), names=tuple(names), shapes=shapes, shown=shown, val=listing.val,
    )  # fmt: skip


def sized(dataset: Dataset, size: int) -> Dataset:
    """Return a data set of files whose views have a size in px, with a note on what they are cut out of."""
    assert dataset.shapes is not None
    usual = f"{dataset.shapes.width} x {dataset.shapes.height} px"
    squares = dataset.shapes.squares(size)
    note = f"pictures are squares of {usual}" if squares else f"views are cut out of pictures of {usual} or so"
    return replace(dataset, size=size, notes=(*dataset.notes, note))


def measured(dataset: Dataset) -> Dataset:
    """Return a data set of files with the mean and deviation of some of its images, spread over all of them."""
    train = dataset.train
    files = train.images.paths[:: -(-len(train) // MEASURED)]
    with ThreadPoolExecutor() as pool:
        squares = [*pool.map(lambda path: _fine_square(train, path, dataset.size), files)]
    pairs = [(path, one) for path, one in zip(files, squares, strict=True) if one is not None]
    if not pairs:
        raise train.unreadable.none_readable(files)
    pixels = torch.stack([one for _, one in pairs])
    flat = [str(pairs[i][0]) for i in flat_places(pixels) if is_flat(opened(pairs[i][0], dataset.shown))]
    notes = [*dataset.notes, *flat_note(flat, len(pairs), dataset.shown)]
    if len(pairs) < len(train):
        some = f"{len(pairs)} of {count(len(train), 'training image')}"
        notes.append(f"mean and deviation of pixels are those of {some}")
    shares = pixels.float() / 255
    mean, std = shares.mean(dim=(0, 2, 3)), shares.std(dim=(0, 2, 3)).clamp(min=1e-3)
    return replace(dataset, mean=tuple(mean.tolist()), std=tuple(std.tolist()), notes=tuple(notes))


def _fine_square(split: Split, path: Path, size: int) -> Tensor | None:
    try:
        return square(_opened(split, path, size).copy()[None], size)[0]
    except UnreadableImage as error:
        split.unreadable.reasons[path] = error.reason
        return None


def _opened(split: Split, path: Path, size: int) -> Opened:
    """Return a picture of a split, which learns its hash. Raises `UnreadableImage`."""
    assert isinstance(split.images, FileImages)
    image = split.images.opened(path, size)
    if split.images.hashes.known(path) is None and image.stamp is not None:
        split.images.hashes.learn(path, image.stamp)
    return image


def held(dataset: Dataset, memory: str) -> Dataset:
    """Return a data set of files that is kept in memory, too, where it is to be: always, never or if it fits ("auto").

    Of a squared image its pixels are kept at the view's size; of others a copy, and a square for evaluation.
    """
    keep, note = placed(dataset, memory)
    if not keep:
        return replace(dataset, notes=(*dataset.notes, note))
    train = _held(dataset.train, dataset.size, bool(dataset.whole))
    val, test = (split and _held(split, dataset.size, False) for split in (dataset.val, dataset.test))
    bank = train if dataset.bank is dataset.train else _part_of(train, dataset.bank, dataset.size)
    unreadable, notes = dataset.unreadable, (*dataset.notes, note)
    notes += (f"{unreadable.summary()}; others stand in for them",) if unreadable.reasons else ()
    return replace(dataset, train=train, bank=bank, val=val, test=test, notes=notes)


def _part_of(train: Split, bank: Split, size: int) -> Split:
    """Return a bank in memory: images of the training split, where --limit left none of them out."""
    place = {text: i for i, text in enumerate(train.images.names)}
    found = [place.get(text) for text in bank.images.names]
    if None in found:
        return _held(bank, size, False)
    return replace(bank, images=train.images.take(torch.tensor(found, dtype=torch.long)))


def placed(dataset: Dataset, memory: str) -> tuple[bool, str]:
    """Return whether the images of a data set of files are to be kept in memory, and a note that says so."""
    taken = sum(map(len, dataset.splits.values())) * dataset.channels * dataset.size**2
    if dataset.whole is not None and dataset.shapes is not None:  # copies
        scale = min(1, COPY * dataset.size / dataset.shapes.shorter)
        taken += round(len(dataset.train) * dataset.channels * int(np.prod(dataset.whole)) * scale**2)
    free = MEMORY_SHARE * psutil.virtual_memory().available / local_world_size()
    how = f"{taken / 1e6:,.0f} MB (--memory {memory})"
    if memory == NEVER or (memory == AUTO and taken > free):
        return False, f"images are read from their files whenever they are needed: {how}"
    return True, f"images are kept in memory: {how}"


def _held(split: Split, size: int, whole: bool) -> Split:
    """Read the images of files into memory, as squares and perhaps as they are."""

    def read(path: Path) -> tuple[Tensor | None, Held | None]:
        try:
            image = _opened(split, path, size)
            pixels = image.copy()
            return square(pixels[None], size)[0], Held(image.height, image.width, pixels) if whole else None
        except UnreadableImage as error:
            split.unreadable.reasons[path] = error.reason
            return None, None

    found = []
    with Work("images read", len(split)) as work, ThreadPoolExecutor() as pool:
        for one in pool.map(read, split.images.paths):
            found.append(one)
            work.add(1)
    if all(one is None for one, _ in found):
        raise split.unreadable.none_readable(split.images.paths)
    black = torch.zeros(split.images.channels, size, size, dtype=torch.uint8)
    squares = torch.stack([black if one is None else one for one, _ in found])
    assert isinstance(split.images, FileImages)
    split.images.hashes.save()
    packed = Packed.of([one for _, one in found]) if whole else None
    return replace(split, images=replace(split.images, squares=squares, whole=packed))
