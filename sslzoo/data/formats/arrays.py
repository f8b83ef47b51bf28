"""Arrays of images by MedMNIST's keys: those of an .npz file, of a named data set or of a plugin."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...tools.errors import UserError, listing
from ...tools.labels import NOT_BINARY, SEVERAL, columns, read_labels, read_names
from ..decoded.ranges import MOST_CHANNELS, Bands, Range
from ..depth import Extent
from ..home import some
from ..images import MemoryImages
from ..picture import square
from ..sample import flat_note, flat_places, range_note
from ..splits import MAX_VIEW_SIZE, Dataset, Split, count_classes, hold_out

GRAY = (19595, 38470, 7471)  # parts of red, green and blue, of 2**16


def from_arrays(name: str, arrays: dict[str, Any], own: bool = False, shown: Range | None = None) -> Dataset:
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
        said = range_note(shown, any(_has_gaps(array) for array in deep), bool(deep))
        notes.append(shown.note if isinstance(shown, Bands) else said)
    held = "test" if "test_images" in arrays else "val"
    pixels: dict[str, Tensor] = {}
    given: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        if f"{split}_images" in arrays:
            pixels[split] = _as_images(f"{split}_images", arrays[f"{split}_images"], shown)
            given[split] = _as_table(f"{split}_labels", arrays.get(f"{split}_labels"), len(pixels[split]))
    labels = _as_labels(given, notes)
    size = min(min(pixels["train"].shape[-2:]), MAX_VIEW_SIZE)
    splits = {
        split: Split(MemoryImages(images), labels.get(split), arrays.get(f"{split}_groups"))
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
        if labelled.shape[1:] != extra.shape[1:]:
            labelled, extra = square(labelled, size), square(extra, size)
        train = Split(MemoryImages(torch.cat([labelled, extra])))
    classes, names = count_classes(bank, test), read_names(name, arrays) if bank.labels is not None else ()
    notes += [f"names of the classes: {some(names)}"] if names and own else []
    if own:
        flat = [f"{split}:{place}" for split, images in pixels.items() for place in flat_places(images)]
        notes += flat_note(flat, sum(map(len, pixels.values())), shown)
    return Dataset(name, train, bank, test, size, classes, own, notes=tuple(notes), names=names, shown=shown, val=val)


def own_arrays(path: Path) -> dict[str, Any]:
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
        hint = ", and texts with .astype(str)" if "allow_pickle" in str(error) else ""
        raise UserError(f"{path} is not an .npz of plain arrays ({kind}); save it with numpy.savez{hint}.") from None


def read_npy(path: Path) -> Any:
    """Return the array of an .npy file, memory-mapped; a pickled one is refused. Raises `UserError`."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give one that is there.") from None
    except Exception as error:  # as above
        kind = type(error).__name__
        raise UserError(f"{path} is no plain .npy array ({kind}); save it with numpy.save.") from None


def _as_images(key: str, array: Any, shown: Range | None = None) -> Tensor:
    """Return uint8 [N, 3, H, W] of [N, H, W], [N, H, W, 1 or 3] or [N, 3, H, W]; 28 px are padded to 32."""
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "iufb" or not pixels.size:
            raise UserError(f"{key} is {pixels.dtype}; it has to be uint8.")
        if shown is None or not shown.given:
            found = Extent.of(pixels)
            raise UserError(
                f"{key} is {pixels.dtype}; it has to be uint8, or --range LOW,HIGH has to say which of its values are "
                f"black and white: they go from {found.low:.6g} to {found.high:.6g}."
            )
        pixels = shown.to_8_bits(pixels)
    images = torch.from_numpy(np.ascontiguousarray(pixels))
    if images.ndim == 3:
        images = images[..., None]
    if isinstance(shown, Bands):
        return _with_channels(key, images, shown.channels)
    if images.ndim != 4 or 0 in images.shape or not (images.shape[-1] in (1, 3) or images.shape[1] == 3):
        hint = _hint(images.shape)
        raise UserError(
            f"{key} has shape {list(images.shape)}; it has to be [N, H, W] or [N, H, W, 3], N at least 1{hint}."
        )
    if images.shape[-1] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if tuple(images.shape[-2:]) == (28, 28):
        images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    return images.expand(-1, 3, -1, -1).contiguous()


def _with_channels(key: str, images: Tensor, channels: int) -> Tensor:
    """Return uint8 [N, C, H, W] of images with so many channels, last or first; of colours their gray, as Pillow's."""
    if images.ndim == 4 and images.shape[-1] != channels and images.shape[1] == channels:
        images = images.permute(0, 2, 3, 1)
    if images.ndim == 4 and channels == 1 and images.shape[-1] == 3:
        images = ((images.int() * torch.tensor(GRAY)).sum(dim=-1, keepdim=True) + (1 << 15) >> 16).to(torch.uint8)
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] != channels:
        raise UserError(
            f"{key} has shape {list(images.shape)}; it has to be [N, H, W, {channels}] for --channels {channels}, N at "
            "least 1."
        )
    return images.permute(0, 3, 1, 2).contiguous()


def _hint(shape: Sequence[int]) -> str:
    """Return what to say of images with other numbers of channels."""
    if len(shape) != 4 or not 1 <= min(shape[1], shape[-1]) <= MOST_CHANNELS:
        return ""
    return f"; or say --channels {min(shape[1], shape[-1])}"


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
