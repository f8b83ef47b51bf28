"""Folders of images: their classes and splits, read into a tensor where that loses nothing, else left as files."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import torch
from torch import Tensor

from .errors import UserError
from .images import Picture, is_image, read_sizes, square
from .splits import MOST, Dataset, Split, hold_out

MEMORY_SHARE = 0.25  # of what is available, for a resident set


def read_folder(root: Path, image_size: int | None) -> Dataset:
    """train/ and test/ (or val/) with a folder per class, a folder per class, or images without labels at any depth."""
    notes: list[str] = []
    start = root / "train" if (root / "train").is_dir() else root
    held = next((root / name for name in ("test", "val") if start != root and (root / name).is_dir()), None)
    names = _class_names(start)
    if held is not None and names:
        names = sorted({*names, *_class_names(held)})
    train, test = _list_split(start, names), _list_split(held, names) if held is not None and names else None
    if not len(train):
        raise UserError(f"{start} holds no images; give a folder with .jpg, .png or other pictures.")
    if test is not None and not len(test):
        raise UserError(f"{held} holds no images in folders of classes, as {start} does; sort them or remove it.")
    if names and test is None:
        paths = cast(tuple[Path, ...], train.images)
        train, test, note = hold_out(train, [hashlib.sha1(path.read_bytes()).digest() for path in paths])
        notes.append(note)
    if not names:
        notes.append("no labels: health is shown, kNN is left out")
    sizes = read_sizes(cast(tuple[Path, ...], train.images))
    size = image_size or min(int(np.median(sizes.min(axis=1))), MOST)
    total = (len(train) + (len(test) if test else 0)) * 3 * size * size
    if total < MEMORY_SHARE * psutil.virtual_memory().available and np.median(sizes.max(axis=1)) <= 1.5 * size:
        train, test = _resident(train, size), _resident(test, size) if test else None
    name = root.resolve().name
    return Dataset(name, train, train, test, size, len(names), own=True, notes=tuple(notes))


def _class_names(start: Path) -> list[str]:
    """The names of folders that hold images; none where images lie beside them."""
    if any(is_image(path) for path in start.iterdir()):
        return []
    return sorted(path.name for path in start.iterdir() if path.is_dir() and any(image_paths(path)))


def image_paths(start: Path) -> Iterator[Path]:
    """The images below a folder at any depth, less what is hidden."""
    for path in start.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from image_paths(path)
        elif is_image(path):
            yield path


def _list_split(start: Path, names: list[str]) -> Split:
    """The images below a folder, in order of their paths, labelled by the first folder where there are classes."""
    number = {name: i for i, name in enumerate(names)}
    paths = sorted(image_paths(start))
    if not names:
        return Split(tuple(paths))
    paths = [path for path in paths if path.relative_to(start).parts[0] in number]
    return Split(
        tuple(paths), torch.tensor([number[path.relative_to(start).parts[0]] for path in paths], dtype=torch.long)
    )


def _resident(split: Split, size: int) -> Split:
    """A split of files as one tensor, shorter side resized to ``size`` and the centre kept."""

    def read(path: Path) -> Tensor:
        return square(Picture(path).pixels()[None], size)[0]

    with ThreadPoolExecutor() as pool:
        return replace(split, images=torch.stack(list(pool.map(read, cast(Iterable[Path], split.images)))))
