"""Folders of images: read into a tensor where that loses nothing, else left as files."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from ..processes.launched import local_world_size
from .depth import Range
from .images import MemoryImages
from .layout import NO_LABELS, list_folder
from .picture import Picture, UnreadableImage, square
from .sample import sample
from .splits import MAX_VIEW_SIZE, Dataset, Split, hold_out

MEMORY_SHARE = 0.25  # of what is available, for a resident set


def read_folder(
    root: Path, image_size: int | None, resident: bool | None = None, shown: Range | None = None
) -> Dataset:
    """Read a folder: train/ and test/ (or val/) with a folder per class, a folder per class, or images at any depth.

    Images that are in no folders of classes have no labels. ``resident`` says whether they are read into memory; where
    it does not, their sizes and what memory is free do. ``shown`` are the values that are black and white where images
    have more than 8 bits. Raises `UserError`.
    """
    listing = list_folder(root, shown)
    train, test, names, notes = listing.train, listing.test, listing.names, listing.notes
    unreadable = train.unreadable
    if names and test is None:
        train, test, note = hold_out(train, train.images.digests())
        notes.append(note)
    if not names:
        notes.append(NO_LABELS)
    looked_at = sample(train.images.paths, shown, unreadable.reasons)
    notes += [*looked_at.decisions(), *looked_at.flat_notes()]
    if not len(sizes := looked_at.shapes):
        raise unreadable.none_readable(train.images.paths)
    size = image_size or min(int(np.median(sizes.min(axis=1))), MAX_VIEW_SIZE)
    if resident is None:
        total = (len(train) + (len(test) if test else 0)) * 3 * size * size * local_world_size()
        free = MEMORY_SHARE * psutil.virtual_memory().available
        resident = total < free and bool(np.median(sizes.max(axis=1)) <= 1.5 * size)
    if resident:
        train, test = _resident(train, size), _resident(test, size) if test else None
        notes += [f"{unreadable.summary()}; they are left out"] if unreadable.reasons else []
    name = root.resolve().name
    return Dataset(name, train, train, test, size, len(names), own=True, notes=tuple(notes), shown=shown)


def _resident(split: Split, size: int) -> Split:
    """Read the images of files into one tensor, shorter side resized to ``size`` and the centre kept."""

    def read(path: Path) -> Tensor | None:
        try:
            return square(Picture(path, split.images.shown).pixels()[None], size)[0]
        except UnreadableImage as error:
            split.unreadable.reasons[path] = error.reason
            return None

    with ThreadPoolExecutor() as pool:
        found = [image for image in pool.map(read, split.images.paths) if image is not None]
    if not found:
        raise split.unreadable.none_readable(split.images.paths)
    readable = split.readable()
    return replace(readable, images=MemoryImages(torch.stack(found), readable.images.names))
