"""Folders of images: their classes and splits, read into a tensor where that loses nothing, else left as files."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from ..processes.launched import local_world_size
from ..tools.errors import UserError
from .images import FileImages, MemoryImages
from .picture import Picture, UnreadableImage, is_image, read_sizes, square
from .splits import MAX_VIEW_SIZE, Dataset, Split, hold_out
from .unreadable import UnreadableImages

MEMORY_SHARE = 0.25  # of what is available, for a resident set
NAMED = 5  # classes in a note


@dataclass(frozen=True)
class Listing:
    """The images of a folder as they lie there: in one split or two, with the names of their classes."""

    train: Split
    test: Split | None
    names: list[str]
    held: str  # the folder of the second split
    empty: list[str]  # classes without images
    lone: dict[str, str]  # classes that only one split has, and which

    @property
    def notes(self) -> list[str]:
        """Sentences on what is worth saying of the classes."""
        lone = [f"{name} ({split})" for name, split in self.lone.items()]
        found = [("classes without images are left out", self.empty), ("classes in one split alone", lone)]
        notes = [f"{what}: {_some(names)}" for what, names in found if names]
        return notes + ["one class: kNN cannot go wrong"] * (len(self.names) == 1)


def read_folder(root: Path, image_size: int | None, resident: bool | None = None) -> Dataset:
    """Read a folder: train/ and test/ (or val/) with a folder per class, a folder per class, or images at any depth.

    Images that are in no folders of classes have no labels. ``resident`` says whether they are read into memory; where
    it does not, their sizes and what memory is free do. Raises `UserError`.
    """
    listing = list_folder(root)
    train, test, names, notes = listing.train, listing.test, listing.names, listing.notes
    unreadable = train.unreadable
    if names and test is None:
        train, test, note = hold_out(train, train.images.digests())
        notes.append(note)
    if not names:
        notes.append("no labels: health is shown, kNN is left out")
    sizes = read_sizes(train.images.paths, unreadable.reasons)
    if not len(sizes):
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
    return Dataset(name, train, train, test, size, len(names), own=True, notes=tuple(notes))


@contextmanager
def _listed() -> Iterator[None]:
    """Turn a folder that may not be listed into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be listed ({error.strerror}); allow it to be read or move it away."
        ) from None


@_listed()
def list_folder(root: Path) -> Listing:
    """Return what a folder holds, nothing of it read. Raises `UserError` where there are no images."""
    start = root / "train" if (root / "train").is_dir() else root
    held = next((root / name for name in ("test", "val") if start != root and (root / name).is_dir()), None)
    own = _class_names(start)
    others = _class_names(held) if held is not None and own else own
    names = sorted({*own, *others})
    unreadable = UnreadableImages(root)
    train = _list_split(start, names, unreadable)
    test = _list_split(held, names, unreadable) if held is not None and names else None
    if not len(train):
        raise UserError(f"{start} holds no images; give a folder with .jpg, .png or other pictures.")
    if test is not None and not len(test):
        raise UserError(f"{held} holds no images in folders of classes, as {start} does; sort them or remove it.")
    unreadable.total = len(train) + (len(test) if test else 0)
    folders = {path.name for home in (start, held) if home and names for path in home.iterdir() if path.is_dir()}
    empty = sorted(name for name in folders - {*names} if not name.startswith("."))
    lone = {name: start.name if name in own else held.name for name in sorted({*own} ^ {*others}) if held}
    return Listing(train, test, names, held.name if held else "", empty, lone)


def _some(names: list[str]) -> str:
    """Return the first of many names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _class_names(start: Path) -> list[str]:
    """Return the names of folders that hold images; none where images lie beside them."""
    if any(is_image(path) for path in start.iterdir()):
        return []
    return sorted(path.name for path in start.iterdir() if path.is_dir() and any(image_paths(path)))


def image_paths(start: Path) -> Iterator[Path]:
    """Yield the images below a folder at any depth, less what is hidden; no link back to a folder above is followed."""
    for path in start.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not (path.is_symlink() and start.resolve().is_relative_to(path.resolve())):
                yield from image_paths(path)
        elif is_image(path):
            yield path


def _list_split(start: Path, names: list[str], unreadable: UnreadableImages) -> Split:
    """Return the images below a folder in order of their paths, labelled by the first folder if there are classes."""
    number = {name: i for i, name in enumerate(names)}
    paths = sorted(image_paths(start))
    if not names:
        return Split(FileImages(tuple(paths)), unreadable=unreadable)
    paths = [path for path in paths if path.relative_to(start).parts[0] in number]
    labels = torch.tensor([number[path.relative_to(start).parts[0]] for path in paths], dtype=torch.long)
    return Split(FileImages(tuple(paths)), labels, unreadable=unreadable)


def _resident(split: Split, size: int) -> Split:
    """Read the images of files into one tensor, shorter side resized to ``size`` and the centre kept."""

    def read(path: Path) -> Tensor | None:
        try:
            return square(Picture(path).pixels()[None], size)[0]
        except UnreadableImage as error:
            split.unreadable.reasons[path] = error.reason
            return None

    with ThreadPoolExecutor() as pool:
        found = [image for image in pool.map(read, split.images.paths) if image is not None]
    if not found:
        raise split.unreadable.none_readable(split.images.paths)
    readable = split.readable()
    return replace(readable, images=MemoryImages(torch.stack(found), readable.images.names))
