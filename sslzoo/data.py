"""Data sets: the embedded digits, torchvision's by name, a folder of images, or an .npz; as tensors or as files."""

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from torch import Tensor

from . import digits
from .errors import UserError, did_you_mean, listing
from .images import is_image, load_image, read_sizes, square

MOST = 224  # px of a view, unless asked for more
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KNOWN = {  # size in px and training images of the sets that have names
    "digits": (32, 5748),
    "cifar10": (32, 50_000),
    "cifar100": (32, 50_000),
    "stl10": (96, 105_000),
    "fashion-mnist": (32, 60_000),
}
MEMORY_SHARE = 0.25  # of what is available, for a resident set


@dataclass(frozen=True)
class Split:
    """Images as one uint8 tensor [N, 3, S, S] or as paths, with labels [N] and the group [N] that each belongs to."""

    images: Tensor | tuple[Path, ...]
    labels: Tensor | None = None
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> "Split":
        """The images at these places."""
        images = self.images[index] if isinstance(self.images, Tensor) else tuple(self.images[i] for i in index.tolist())
        parts = [None if x is None else x[index] for x in (self.labels, self.groups)]
        return Split(images, *parts)


@dataclass(frozen=True)
class Dataset:
    """A data set at one image size. ``bank`` is the labelled training split of kNN; ``own`` a person's own data."""

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

    @property
    def labelled(self) -> bool:
        """Whether kNN has what it needs."""
        return self.bank.labels is not None and self.test is not None and self.test.labels is not None

    def validation(self, seed: int) -> tuple[Split, Split]:
        """A seeded tenth of the bank as queries, by group, and the rest as their bank."""
        groups = torch.arange(len(self.bank)) if self.bank.groups is None else self.bank.groups
        names = groups.unique()
        chosen = names[torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[: max(len(names) // 10, 1)]]
        held = torch.isin(groups, chosen)
        return self.bank.take((~held).nonzero().squeeze(1)), self.bank.take(held.nonzero().squeeze(1))


def cache() -> Path:
    """Where downloads go: ``SSLZOO_CACHE``, else ``sslzoo`` in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "sslzoo"
    return Path(os.environ.get("SSLZOO_CACHE") or default).expanduser()


def load(name: str, image_size: int | None = None, limit: int | None = None) -> Dataset:
    """A data set by name, folder or .npz file. Raises `UserError`.

    ``image_size`` sets the view's size in px (by default the images' own, at most 224); ``limit`` keeps the first N
    training images of a seeded shuffle, for a quick try.
    """
    path = Path(name).expanduser()
    if name == "digits":
        dataset = _from_arrays(name, digits.load(), image_size)
    elif name in TORCHVISION:
        dataset = _from_arrays(name, TORCHVISION[name](), image_size)
    elif path.is_dir():
        dataset = _from_folder(path, image_size)
    elif path.suffix == ".npz":
        dataset = _from_arrays(path.stem, _read_npz(path), image_size, own=True)
    else:
        known = ["digits", *TORCHVISION]
        raise UserError(f"There is no data {name!r}{did_you_mean(name, known)}; give {listing(known)}, a folder or an .npz file.")
    if limit is not None:
        dataset = _limited(dataset, limit)
    return _normalised(dataset)


def _limited(dataset: Dataset, limit: int) -> Dataset:
    def first(split: Split) -> Split:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
        return split.take(order[:limit])

    train = first(dataset.train)
    bank = train if dataset.bank is dataset.train else first(dataset.bank)
    return replace(dataset, train=train, bank=bank, notes=(*dataset.notes, f"{len(train)} training images (--limit)"))


def _normalised(dataset: Dataset) -> Dataset:
    """With the mean and deviation of its own training pixels, where they are at hand."""
    images = dataset.train.images
    if not isinstance(images, Tensor):
        return dataset
    pixels = images[:: max(len(images) // 10_000, 1)].float() / 255
    mean, std = pixels.mean(dim=(0, 2, 3)), pixels.std(dim=(0, 2, 3)).clamp(min=1e-3)
    return replace(dataset, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _from_arrays(name: str, arrays: dict[str, Any], image_size: int | None, own: bool = False) -> Dataset:
    """A resident set of MedMNIST's keys: train_images, train_labels, test_images, ... (val_* where test_* lacks)."""
    if "train_images" not in arrays:
        raise UserError(f"{name} has no array 'train_images', only {listing(arrays) if arrays else 'nothing'}; name them as MedMNIST does.")
    notes: list[str] = []
    held = "test" if "test_images" in arrays else "val"
    splits: dict[str, Split] = {}
    for split in ("train", held):
        if f"{split}_images" in arrays:
            images = _as_images(f"{split}_images", arrays[f"{split}_images"])
            labels = _as_labels(f"{split}_labels", arrays.get(f"{split}_labels"), len(images), notes)
            splits[split] = Split(images, labels, arrays.get(f"{split}_groups"))
    size = image_size or min(min(splits["train"].images.shape[-2:]), MOST)  # type: ignore[union-attr]
    splits = {key: replace(split, images=square(cast(Tensor, split.images), size)) for key, split in splits.items()}
    train, test = splits["train"], splits.get(held)
    if test is None and train.labels is not None:
        hashes = [hashlib.sha1(image.numpy().tobytes()).digest() for image in cast(Tensor, train.images)]
        train, test, note = _held_out(train, hashes)
        notes.append(note)
    bank = train
    if "extra_images" in arrays:  # images without labels, for training alone
        train = Split(torch.cat([cast(Tensor, train.images), square(_as_images("extra", arrays["extra_images"]), size)]))
    return Dataset(name, train, bank, test, size, _classes(bank, test), own, notes=tuple(notes))


def _read_npz(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"There is no file {path}; give a folder, an .npz file or a data set's name.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:  # numpy raises many kinds for a file that is no archive of plain arrays
        raise UserError(f"{path} is not an .npz of plain arrays ({type(error).__name__}); save it with numpy.savez.") from None


def _as_images(key: str, array: Any) -> Tensor:
    """uint8 [N, 3, H, W] of [N, H, W], [N, H, W, 1 or 3] or a tensor; 28 px are padded to 32."""
    images = array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array))
    if images.dtype != torch.uint8:
        raise UserError(f"{key} is {images.dtype}; it has to be uint8.".replace("torch.", ""))
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or len(images) == 0 or not (images.shape[-1] in (1, 3) or images.shape[1] == 3):
        raise UserError(f"{key} has shape {list(images.shape)}; it has to be [N, H, W] or [N, H, W, 3], N at least 1.")
    if images.shape[-1] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    if tuple(images.shape[-2:]) == (28, 28):
        images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    return images.expand(-1, 3, -1, -1).contiguous()


def _as_labels(key: str, array: Any, n: int, notes: list[str]) -> Tensor | None:
    """int64 [N], or None where there is not one label per image."""
    if array is None:
        return None
    labels = array if isinstance(array, Tensor) else torch.from_numpy(np.ascontiguousarray(array))
    if len(labels) != n:
        raise UserError(f"{key} has {len(labels)} rows for {n} images; give one label per image.")
    labels = labels.reshape(n, -1)
    if labels.shape[1] != 1:
        note = f"{labels.shape[1]} labels per image: kNN needs one, so it is left out"
        notes += [] if note in notes else [note]
        return None
    if labels.is_floating_point() and not bool((labels == labels.round()).all()):
        raise UserError(f"{key} is not whole numbers; give class numbers.")
    return labels.squeeze(1).long()


def _held_out(train: Split, hashes: list[bytes]) -> tuple[Split, Split, str]:
    """Train and test where no test split came along: every tenth by hash, so that equal images stay together."""
    held = torch.tensor([int.from_bytes(h[:4], "big") % 10 == 0 for h in hashes])
    if not held.any() or held.all():
        raise UserError(f"{len(train)} images are too few to hold out a test split; add a test/ split or more images.")
    note = f"no test split: {int(held.sum())} of {len(held)} images are held out by their hash"
    return train.take((~held).nonzero().squeeze(1)), train.take(held.nonzero().squeeze(1)), note


def _classes(*splits: Split | None) -> int:
    """The number of classes over all splits."""
    labels = [split.labels for split in splits if split is not None and split.labels is not None]
    return len(torch.cat(labels).unique()) if labels else 0


# ---- folders ---------------------------------------------------------------------------------------------------------


def _from_folder(root: Path, image_size: int | None) -> Dataset:
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
        raise UserError(f"{held} holds no images; fill it or remove it.")
    if names and test is None:
        paths = cast(tuple[Path, ...], train.images)
        train, test, note = _held_out(train, [hashlib.sha1(path.read_bytes()).digest() for path in paths])
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
    """The class folders' names; none where images lie beside them or they hold no images."""
    if any(is_image(path) for path in start.iterdir()):
        return []
    return sorted(path.name for path in start.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_split(start: Path, names: list[str]) -> Split:
    """The images below a folder, in order of their paths, labelled by the first folder where there are classes."""
    number = {name: i for i, name in enumerate(names)}
    paths = [path for path in sorted(start.rglob("*")) if is_image(path)]
    if not names:
        return Split(tuple(paths))
    paths = [path for path in paths if path.relative_to(start).parts[0] in number]
    return Split(tuple(paths), torch.tensor([number[path.relative_to(start).parts[0]] for path in paths], dtype=torch.long))


def _resident(split: Split, size: int) -> Split:
    """A split of files as one tensor, shorter side resized to ``size`` and the centre kept."""

    def read(path: Path) -> Tensor:
        return square(torch.from_numpy(np.array(load_image(path))).permute(2, 0, 1)[None], size)[0]

    with ThreadPoolExecutor() as pool:
        return replace(split, images=torch.stack(list(pool.map(read, cast(Iterable[Path], split.images)))))


# ---- torchvision -----------------------------------------------------------------------------------------------------


def _torchvision(name: str, splits: dict[str, dict[str, Any]], images: str = "data", labels: str = "targets") -> dict[str, Any]:
    """Arrays of a torchvision data set, downloaded into the cache where they are not there yet."""
    import torchvision.datasets

    found: dict[str, Any] = {}
    kind = getattr(torchvision.datasets, name)
    for split, options in splits.items():
        try:
            try:
                made = kind(cache(), download=False, **options)
            except RuntimeError:
                made = kind(cache(), download=True, **options)
        except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision raises RuntimeError for bad files
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UserError(
                f"{name} could not be downloaded into {cache()} ({said.rstrip('.')}); check the network, or set SSLZOO_CACHE "
                "to a folder that has it."
            ) from None
        array = np.asarray(getattr(made, images))
        found[f"{split}_images"] = array
        found[f"{split}_labels"] = np.asarray(getattr(made, labels))
    return found


def _stl10() -> dict[str, Any]:
    """STL-10 trains on its labelled and unlabelled images; the bank is the labelled part."""
    splits = {"train": {"split": "train"}, "test": {"split": "test"}, "extra": {"split": "unlabeled"}}
    return _torchvision("STL10", splits, labels="labels")


_TWO: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
TORCHVISION: dict[str, Callable[[], dict[str, Any]]] = {
    "cifar10": lambda: _torchvision("CIFAR10", _TWO),
    "cifar100": lambda: _torchvision("CIFAR100", _TWO),
    "stl10": _stl10,
    "fashion-mnist": lambda: _torchvision("FashionMNIST", _TWO),
}
