"""Data sets that a person gives in Python: a torch Dataset for each split, read once and kept without loss.

Each item is read once, so that what a Dataset draws at random is drawn once, and processes that read need nothing of
it. The pictures lie in a temporary file of this process as PNGs, from which they are read as from any other file.
"""

import atexit
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...recipes.plugins import GIVEN
from ...tools.errors import UserError, kind_and_words, listing
from ...tools.progress import Work
from ..decoded.ranges import Range
from ..given.places import Listing
from ..packed.index import Index
from ..picture import pixels_of
from .rows import Found, Label, Rows, to_listing

SPLITS = ("train", "val", "test")
KINDS = "a picture of Pillow's, uint8 [H, W, 3] of numpy, or [3, H, W] of torch, uint8 or in [0, 1]"

_given: dict[str, Found] = {}  # of this process, by name


def give(data: Any) -> str:
    """Keep the images of a torch Dataset, or of one for each split, and return the name that stands for them.

    An item is an image or an image with its label, a whole number or a text; a dict has them under "image" and "label".
    Names of classes are those of the training split's ``classes``. Raises `UserError` for what is none of this.
    """
    splits = dict(data) if isinstance(data, Mapping) else {"train": data}
    if wrong := [name for name in splits if name not in SPLITS] or ([] if "train" in splits else ["nothing"]):
        raise UserError(f"data has {wrong[0]!r} and has to have 'train'; its keys are {listing(SPLITS)}.")
    own = splits["train"]
    folder = Path(tempfile.mkdtemp(prefix="sslzoo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = getattr(own, "classes", ())
    usual = isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(one, str) for one in names)
    seen = hashlib.blake2b(digest_size=4)
    rows = {split: _kept(part, split, folder / split, seen.update) for split, part in splits.items()}
    kind = type(own).__name__
    name = f"{GIVEN}{kind} {seen.hexdigest()}"  # another of its kind, here or tomorrow, is another set
    _given[name] = Found(kind, folder, rows, names if usual else ())
    return name


def is_data(data: Any) -> bool:
    """Return whether something is a Dataset of torch's kind, or some by their splits, and no name."""
    items = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | bytes)
    return isinstance(data, Mapping) or items


def name_of(data: Any) -> Any:
    """Return the name of what a person gives as data: a torch Dataset, or some by their splits, a path, or a name.

    Raises `UserError` for what is none of these.
    """
    if isinstance(data, type):
        raise UserError(f"data= is the class {data.__name__}; give one of it, made with its arguments.")
    if is_data(data):
        return give(data)
    if data is None or isinstance(data, str | os.PathLike):
        return None if data is None else os.fsdecode(data)
    give_its = "its .dataset, as a loader gives batches" if hasattr(data, "dataset") else "a name, a path or a Dataset"
    raise UserError(f"data= cannot be {data!r:.80}; give {give_its}.")


def listed(name: str, shown: Range | None) -> Listing | None:
    """Return the images that a name stands for; None where it stands for none. Raises `UserError`."""
    if not name.startswith(GIVEN):
        return None
    if name not in _given:
        raise UserError(
            f"The data are a {name.removeprefix(GIVEN)} that was given in Python; give it there again, with "
            "sslzoo.resume(..., data=...), or data= of what you call."
        )
    return to_listing(_given[name], name.removeprefix(GIVEN), shown)


def _kept(data: Any, split: str, place: Path, see: Callable[[bytes], None]) -> Rows:
    """Write the pictures of a Dataset into one file, and return their rows; ``see`` is shown all that they hold."""
    if not is_data(data) or isinstance(data, Mapping):
        raise UserError(f"The {split} split is a {type(data).__name__} and no Dataset; give one with len and items.")
    names, spans, labels = [], [], list[Label]()
    width = len(str(max(len(data) - 1, 0)))
    with place.open("wb") as file, Work(f"{split} items read", len(data)) as work:
        for i, (image, label) in enumerate(_items(data, split)):
            content = _png(image, f"item {i} of {split}")
            spans.append((file.tell(), len(content)))
            names.append(f"{i:0{width}}.png")
            labels.append(label)
            file.write(content)
            see(f"{split} {label!r} {len(content)}".encode() + content)
            work.add(1)
    if not names:
        raise UserError(f"The {split} split has no items; give a Dataset with some.")
    index = Index.of(str(place), str(place), names, spans)
    return Rows(index.texts, labels if any(label is not None for label in labels) else [], [index])


def _items(data: Any, split: str) -> Iterator[tuple[Any, Label]]:
    """Yield image and label of each item. Raises `UserError` for an item that has none."""
    for i in range(len(data)):
        try:
            item = data[i]
        except Exception as error:  # a person's code may raise anything
            raise UserError(
                f"Item {i} of the {split} split cannot be read ({kind_and_words(error)}); mend the Dataset."
            ) from error
        if isinstance(item, Mapping):
            if "image" not in item:
                raise UserError(f"Item {i} of the {split} split has {listing(item)} and no 'image'; name it so.")
            yield item["image"], _label(item.get("label"), i, split)
        elif isinstance(item, tuple | list) and len(item) in (1, 2):
            yield item[0], _label(item[1] if len(item) == 2 else None, i, split)
        else:
            yield item, None


def _label(label: Any, place: int, split: str) -> Label:
    """Return a label as a whole number or a text; None for none. Raises `UserError` for another kind."""
    if isinstance(label, Tensor | np.ndarray | np.generic) and np.ndim(label) == 0:
        label = label.item()
    if label is None or isinstance(label, str):
        return label or None
    if isinstance(label, int):
        return None if label < 0 else int(label)
    raise UserError(f"The label of item {place} of {split} is {label!r:.60}; it has to be a whole number or a text.")


def _png(image: Any, where: str) -> bytes:
    """Return a picture as a PNG, of which nothing is lost. Raises `UserError` for what is no picture."""
    values = image.detach().cpu() if isinstance(image, Tensor) else image
    if isinstance(values, Tensor) and values.is_floating_point() and bool(((values >= 0) & (values <= 1)).all()):
        values = (values * 255).round().to(torch.uint8)
    if (pixels := pixels_of(values)) is None:
        about = f" {list(image.shape)}, {image.dtype}" if hasattr(image, "shape") and hasattr(image, "dtype") else ""
        raise UserError(f"The image of {where} is a {type(image).__name__}{about}; it has to be {KINDS}.")
    written = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(written, format="PNG", compress_level=1)
    return written.getvalue()
