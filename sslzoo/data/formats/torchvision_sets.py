"""torchvision's data sets for classification by name, ``torchvision:Flowers102``, downloaded into the cache.

They are read as anyone reads them, one item after another: those of files give their paths in place of pictures, small
ones in memory give arrays, and what is left is kept as PNG files in the cache.
"""

import inspect
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...tools import files
from ...tools.errors import UserError, did_you_mean, in_a_line, listing
from ...tools.places import cache
from ...tools.progress import Work
from ..decoded.ranges import Range
from ..given.places import Listing
from ..packed.unpacked import Images, unpacked
from .rows import Found, Rows, as_label, common_root, to_listing
from .spelling import Spelled

Options = dict[str, Any]
HOW = {"train": {"train": True}, "test": {"train": False}}


@dataclass(frozen=True)
class Set:
    """Says how the splits of a set are asked for, and by which argument its variants are, of which one is usual."""

    splits: dict[str, Options]
    variant: str = ""
    usual: str = ""
    more: Options = field(default_factory=dict)
    resident: bool = False  # its pictures are of one size, and small


def _split(*names: str, **others: str) -> dict[str, Options]:
    """Return splits that are asked for by their names, or by other words."""
    return {ours: {"split": word} for ours, word in ({name: name for name in names} | others).items()}


SETS = {
    **{name: Set(HOW, resident=True) for name in ("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST")},
    **{name: Set(HOW, resident=True) for name in ("MNIST", "QMNIST", "USPS")},
    "EMNIST": Set(HOW, "split", resident=True),
    "SVHN": Set(_split("train", "test"), resident=True),
    "STL10": Set(_split("train", "test", extra="unlabeled"), resident=True),
    "SEMEION": Set({"train": {}}, resident=True),
    "FER2013": Set(_split("train", "test"), resident=True),
    "Omniglot": Set({"train": {"background": True}, "test": {"background": False}}),
    "Caltech101": Set({"train": {}}),
    "Caltech256": Set({"train": {}}),
    "CLEVRClassification": Set(_split("train", "val")),
    "Country211": Set(_split("train", "test", val="valid")),
    "DTD": Set(_split("train", "val", "test")),
    "EuroSAT": Set({"train": {}}),
    "FGVCAircraft": Set(_split("train", "val", "test"), "annotation_level", "variant"),
    "Flowers102": Set(_split("train", "val", "test")),
    "Food101": Set(_split("train", "test")),
    "GTSRB": Set(_split("train", "test")),
    "Imagenette": Set(_split("train", "val"), "size", "full"),
    "ImageNet": Set(_split("train", "val")),
    "INaturalist": Set({"train": {"version": "2021_train_mini"}, "val": {"version": "2021_valid"}}),
    "LFWPeople": Set(_split("train", "test")),
    "OxfordIIITPet": Set(_split("test", train="trainval")),
    "PCAM": Set(_split("train", "val", "test")),
    "Places365": Set(_split("val", train="train-standard"), more={"small": True}),
    "RenderedSST2": Set(_split("train", "val", "test")),
    "StanfordCars": Set(_split("train", "test")),
    "SUN397": Set({"train": {}}),
}  # fmt: skip


def listed(spelled: Spelled, shown: Range | None) -> Listing | None:
    """Return the images of a set whose pictures are files, or are kept as such; None of one in arrays."""
    name, how, variant = _known(spelled.text)
    if how.resident:
        return None
    splits: dict[str, Rows] = {}
    names: tuple[str, ...] = ()
    for split, options in how.splits.items():
        made = _made(name, options | how.more | variant)
        names = names or _names(made)
        with Work(f"{split} images of {name}", len(made)) as work:
            splits[split] = _files(made, work) or _packed(name, split, made, work)
    root = common_root([text for rows in splits.values() for text in rows.texts], cache().absolute())
    return to_listing(Found(name, root, splits, names), spelled.given, shown)


def arrays(text: str) -> dict[str, Any]:
    """Return the arrays of a set by MedMNIST's keys. Raises `UserError`."""
    name, how, variant = _known(f"torchvision:{text}")
    found: dict[str, Any] = {}
    for split, options in how.splits.items():
        made = _made(name, options | how.more | variant)
        pairs = [made[i] for i in range(len(made))]
        found[f"{split}_images"] = np.stack([np.asarray(image) for image, _ in pairs])
        if split != "extra":
            found[f"{split}_labels"] = np.array([int(label) for _, label in pairs])
        if names := _names(made):
            found["classes"] = [*names]
    return found


def _known(text: str) -> tuple[str, Set, Options]:
    """Return a set's name as torchvision has it, how its splits are asked for, and its variant. Raises `UserError`."""
    asked, _, variant = text.removeprefix("torchvision:").partition(":")
    name = next((name for name in SETS if name.lower() == asked.lower()), None)
    if name is None:
        raise UserError(
            f"torchvision has no set for classification called {asked!r}{did_you_mean(asked, SETS)}; it has "
            f"{listing(SETS)}."
        )
    how = SETS[name]
    if variant and not how.variant:
        raise UserError(f"torchvision's {name} has no variants, and {variant!r} is none; leave it out.")
    if how.variant and not (variant or how.usual):
        raise UserError(f"torchvision's {name} has variants; say which, as in torchvision:{name}:letters.")
    return name, how, {how.variant: variant or how.usual} if how.variant else {}


def _made(name: str, options: Options) -> Any:
    """Return one split of a set, downloaded where it is not there yet. Raises `UserError`."""
    import torchvision.datasets

    kind: Callable[..., Any] = getattr(torchvision.datasets, name)
    takes = inspect.signature(kind).parameters
    if "loader" in takes or name == "ImageNet":
        options = options | {"loader": str}  # which gives paths in place of pictures
    try:
        (lock := cache() / ".lock").parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with files.locked(lock, wait=True):  # the next one finds what this one has downloaded
            try:
                return kind(str(cache()), **options, **({"download": False} if "download" in takes else {}))
            except RuntimeError:
                if "download" not in takes:
                    raise
                return kind(str(cache()), **options, download=True)
    except ModuleNotFoundError as error:
        raise UserError(f"torchvision's {name} needs {error.name}; pip install {error.name}.") from None
    except ValueError as error:
        raise UserError(f"torchvision's {name} refuses that ({in_a_line(error)}); name another.") from None
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"torchvision's {name} could not be had in {cache()} ({in_a_line(error)}); check the network, or put its "
            "files there."
        ) from None


def _names(made: Any) -> tuple[str, ...]:
    """Return the names of a set's classes, which may have several words each."""
    found = getattr(made, "classes", None) or getattr(made, "categories", None) or ()
    return tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in found)


def _files(made: Any, work: Work) -> Rows | None:
    """Return the files of a split; None where it gives pictures."""
    if not len(made) or not isinstance(made[0][0], str):
        return None
    rows = Rows()
    for place in range(len(made)):
        path, label = made[place]
        rows.texts.append(str(Path(os.path.abspath(path))))
        rows.labels.append(as_label(int(label)))
        work.add(1)
    return rows


def _packed(name: str, split: str, made: Any, work: Work) -> Rows:
    """Return the pictures of a split, which are kept in the cache as PNG files."""
    (marker := cache().absolute() / "torchvision" / f"{name}-{split}").parent.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        files.write(marker, f"{name} {split} {len(made)}\n")
    index = unpacked(str(marker), f"{len(made)}", partial(_pictures, made, work))
    labels = [as_label(int(name.partition("-")[2].removesuffix(".png"))) for name in index.places]
    return Rows(index.texts, labels, [index])


def _pictures(made: Any, work: Work) -> Images:
    """Yield a name, which ends in the label, and a PNG file of each picture."""
    width = len(str(len(made)))
    for place in range(len(made)):
        image, label = made[place]
        image.save(content := io.BytesIO(), "PNG", compress_level=1)
        work.add(1)
        yield f"{place:0{width}d}-{int(label)}.png", content.getvalue()
