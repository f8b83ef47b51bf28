"""Data sets: the embedded digits, torchvision's by name, a folder of images, or an .npz."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..recipes import plugins
from ..tools.bounds import SMALLEST
from ..tools.errors import UserError, did_you_mean, listing
from ..tools.labels import NOBODY, NOT_BINARY, SEVERAL, columns, read_labels, read_names
from . import digits
from .depth import Extent, Range
from .downloads import TORCHVISION
from .folders import AUTO, MEMORY, NEVER, held, measured, read_folder
from .home import count, some
from .images import MemoryImages
from .layout import NO_LABELS, ONE_CLASS
from .picture import square
from .sample import flat_note, flat_places, range_note
from .splits import MAX_VIEW_SIZE, Dataset, Split, count_classes, hold_out, lacking

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
    """Load a data set by name, folder or .npz file. Raises `UserError`.

    ``image_size`` sets the view's size in px (by default the images' own, at most 224); ``limit`` keeps the first N
    training images of a seeded shuffle, for a quick try; ``memory`` says whether images of files are kept in memory:
    "always", "never", or where they fit ("auto"). Nothing else depends on it. ``range`` are the values that are black
    and white in images of more than 8 bits, as in "0,4095".
    """
    if memory not in MEMORY:
        raise UserError(f"--memory cannot be {memory!r}; it is {listing(MEMORY)}.")
    shown = Range.parse(range)
    path = Path(os.path.expanduser(name))
    if limit is not None and limit < 1:
        raise UserError(f"--limit cannot be {limit}; it is at least 1.")
    if name == "digits":
        dataset = _from_arrays(name, {**digits.load(), "classes": [*"0123456789"]}, image_size, shown=shown)
    elif name in TORCHVISION:
        dataset = _from_arrays(name, TORCHVISION[name](), image_size, shown=shown)
    elif (own_data := plugins.data(name)) is not None:
        dataset = _from_arrays(name, dict(own_data()), image_size, shown=shown)
    elif name and os.path.isdir(path):
        dataset = read_folder(path, image_size, shown)
    elif path.suffix in FORMATS:
        dataset = _from_arrays(path.stem, FORMATS[path.suffix](path), image_size, own=True, shown=shown)
    else:
        known = ["digits", *TORCHVISION]
        raise UserError(
            f"There is no data {name!r}{did_you_mean(name, known)}; give {listing(known)}, a folder or an .npz file."
        )
    dataset = _scored(dataset)
    if limit is not None:
        dataset = _limited(dataset, limit)
    if dataset.size < SMALLEST:
        raise UserError(f"{name} has images of {dataset.size} px; give --image-size {SMALLEST} or more.")
    if dataset.train.images.paths:
        return held(measured(dataset), memory)
    notes = ("arrays are in memory, whatever --memory says",) if memory == NEVER and dataset.own else ()
    return replace(_normalised(dataset), notes=(*dataset.notes, *notes))


def _scored(dataset: Dataset) -> Dataset:
    """Return the data set with labelled images alone as kNN's bank and queries; all of the others train.

    A negative label is none, as in STL-10 and in solo-learn's lists. What else there is to say of the labels of the two
    splits becomes a note.
    """
    bank, test = dataset.bank.labelled(), dataset.test.labelled() if dataset.test else None
    val = dataset.val.labelled() if dataset.val is not None and dataset.val.labels is not None else None
    dataset = replace(dataset, val=val if val and bool(val.asking.any()) else None)
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
        return replace(dataset, train=train, bank=train, val=None, test=None, classes=0, names=(), notes=tuple(notes))
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

    def first_rows(split: Split) -> Split:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
        return split.take(order[:limit])

    train = first_rows(dataset.train)
    bank = train if dataset.bank is dataset.train else first_rows(dataset.bank)
    if train.images.paths:
        others = [one for name, one in dataset.splits.items() if name != "train"]
        dataset.unreadable.restrict_to(name for one in (train, *others) for name in one.images.names)
    return replace(dataset, train=train, bank=bank, notes=(*dataset.notes, f"{len(train)} training images (--limit)"))


def _normalised(dataset: Dataset) -> Dataset:
    """Return a data set in memory with the mean and deviation of its own training pixels."""
    images = dataset.train.images.pixels
    assert images is not None  # of arrays
    pixels = images[:: max(len(images) // 10_000, 1)].float() / 255
    mean, std = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3)).clamp(min=1e-3)
    return replace(dataset, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _from_arrays(
    name: str, arrays: dict[str, Any], image_size: int | None, own: bool = False, shown: Range | None = None
) -> Dataset:
    """Return a resident set of MedMNIST's keys: train_images, train_labels, test_images, ... (or val_images, ...)."""
    if "train_images" not in arrays:
        raise UserError(
            f"{name} has no array 'train_images', only {listing(arrays) if arrays else 'nothing'}; "
            "name them as MedMNIST does."
        )
    notes: list[str] = []
    if shown is not None:
        deep = [np.asarray(array) for key, array in arrays.items() if key.endswith("_images")]
        deep = [array for array in deep if array.dtype != np.uint8]
        notes.append(range_note(shown, any(_has_gaps(array) for array in deep), bool(deep)))
    held = "test" if "test_images" in arrays else "val"
    pixels: dict[str, Tensor] = {}
    given: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        if f"{split}_images" in arrays:
            pixels[split] = _as_images(f"{split}_images", arrays[f"{split}_images"], shown)
            given[split] = _as_table(f"{split}_labels", arrays.get(f"{split}_labels"), len(pixels[split]))
    labels = _as_labels(given, notes)
    size = image_size or min(min(pixels["train"].shape[-2:]), MAX_VIEW_SIZE)
    splits = {
        split: Split(MemoryImages(square(images, size)), labels.get(split), arrays.get(f"{split}_groups"))
        for split, images in pixels.items()
    }
    train, test = splits["train"], splits.get(held)
    if test is None and train.labels is not None:
        train, test, note = hold_out(train, train.images.digests())
        notes.append(note)
    bank, val = train, splits.get("val") if held == "test" else None
    if own and val is not None:
        notes.append("val_images are the validation split, for kNN while a run goes on")
    if "extra_images" in arrays:  # images without labels, for training alone
        labelled, extra = train.images.pixels, _as_images("extra_images", arrays["extra_images"], shown)
        assert labelled is not None  # it was made above
        train = Split(MemoryImages(torch.cat([labelled, square(extra, size)])))
    classes, names = count_classes(bank, test), read_names(name, arrays) if bank.labels is not None else ()
    notes += [f"names of the classes: {some(names)}"] if names and own else []
    if own:
        flat = [f"{split}:{place}" for split, images in pixels.items() for place in flat_places(images)]
        notes += flat_note(flat, sum(map(len, pixels.values())), shown)
    return Dataset(name, train, bank, test, size, classes, own, notes=tuple(notes), names=names, shown=shown, val=val)


def _own_arrays(path: Path) -> dict[str, Any]:
    """Return a person's arrays, by MedMNIST's keys."""
    arrays = read_npz(path, "give a folder, an .npz file or a data set's name")
    return {key: array for key, array in arrays.items() if not key.endswith("_groups")}


def read_npz(path: Path, recovery_hint: str) -> dict[str, Any]:
    """Return the arrays of an .npz file; pickled ones are refused. Raises `UserError`."""
    if not os.path.isfile(path):
        raise UserError(f"There is no file {path}; {recovery_hint}.")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {key: np.asarray(file[key]) for key in file.files}  # what is no array at all becomes one
    except Exception as error:  # numpy raises many kinds for a file that is no archive of plain arrays
        kind = type(error).__name__
        raise UserError(f"{path} is not an .npz of plain arrays ({kind}); save it with numpy.savez.") from None


def read_npy(path: Path) -> Any:
    """Return the array of an .npy file, memory-mapped; a pickled one is refused. Raises `UserError`."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # as above
        kind = type(error).__name__
        raise UserError(f"{path} is no plain .npy array ({kind}); save it with numpy.save.") from None


def _as_images(key: str, array: Any, shown: Range | None = None) -> Tensor:
    """Return uint8 [N, 3, H, W] of [N, H, W], [N, H, W, 1 or 3] or [N, 3, H, W]; 28 px are padded to 32."""
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "iufb" or not pixels.size:
            raise UserError(f"{key} is {pixels.dtype}; it has to be uint8.")
        if shown is None:
            found = Extent.of(pixels)
            raise UserError(
                f"{key} is {pixels.dtype}; it has to be uint8, or --range LOW,HIGH has to say which of its values are "
                f"black and white: they go from {found.low:.6g} to {found.high:.6g}."
            )
        pixels = shown.to_8_bits(pixels)
    images = torch.from_numpy(np.ascontiguousarray(pixels))
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape or not (images.shape[-1] in (1, 3) or images.shape[1] == 3):
        raise UserError(f"{key} has shape {list(images.shape)}; it has to be [N, H, W] or [N, H, W, 3], N at least 1.")
    if images.shape[-1] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if tuple(images.shape[-2:]) == (28, 28):
        images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    return images.expand(-1, 3, -1, -1).contiguous()


def _has_gaps(array: Any) -> bool:
    return bool(array.dtype.kind == "f" and np.isnan(array).any())


def _as_table(key: str, array: Any, n: int) -> Any:
    """Return labels as a table [N, C], a row an image; None where there are none. Raises `UserError`."""
    if array is None:
        return None
    labels = np.asarray(array)
    if labels.shape[:1] != (n,):
        rows = len(labels) if labels.ndim else "no"
        raise UserError(f"{key} has {rows} rows for {n} images; give one label per image.")
    if not labels.size:
        raise UserError(f"{key} has shape {list(labels.shape)}; give one label per image, or leave it out.")
    return labels.reshape(n, -1)


def _as_labels(given: dict[str, Any], notes: list[str]) -> dict[str, Tensor]:
    """Return the labels of splits from their tables: all of them classes, or all of them several labels a row."""
    tables = {split: table for split, table in given.items() if table is not None}
    widths = {split: table.shape[1] for split, table in tables.items()}
    one_hot = {split: _is_one_hot(table) for split, table in tables.items()}
    if all(one_hot[split] or width == 1 for split, width in widths.items()):
        for split in tables:
            if one_hot[split]:
                note = f"{widths[split]} columns of labels with one 1 in each row are taken for as many classes"
                notes += [] if note in notes else [note]
                tables[split] = tables[split].argmax(axis=1)
        classes = {split: read_labels(f"{split}_labels", table) for split, table in tables.items()}
        return {split: torch.from_numpy(found).clamp(min=-1) for split, found in classes.items()}
    if len({*widths.values()}) > 1:
        said = ", ".join(f"{split}_labels {width}" for split, width in widths.items())
        raise UserError(f"Labels have different numbers of columns ({said}); give all splits the same.")
    several = {split: columns(table) for split, table in tables.items()}
    width = max(widths.values())
    if any(found is None for found in several.values()):
        notes.append(f"{width} {NOT_BINARY}: kNN is left out; give one label, or 0 and 1")
        return {}
    notes.append(f"{width} labels, of which an image may have several: kNN is {SEVERAL}")
    return {split: torch.from_numpy(found) for split, found in several.items()}


def _is_one_hot(table: Any) -> bool:
    """Return whether each row of several columns has one 1, and 0 elsewhere."""
    return table.shape[1] > 1 and set(np.unique(table)) <= {0, 1} and bool((table.sum(axis=1) == 1).all())


FORMATS: dict[str, Callable[[Path], dict[str, Any]]] = {".npz": _own_arrays}  # of a person's file, by its suffix
