"""What a folder or an .npz holds, every image read once: the report of ``sslzoo data check``."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..processes.launched import readers
from ..tools.bounds import check_numbers
from ..tools.errors import UserError
from . import sets
from .folders import Listing, list_folder
from .picture import LARGE, SUFFIXES, Picture, Unreadable
from .splits import MOST, Split, hold_out
from .unreadable import MOST as MOST_BAD

COARSE = 8  # a JPEG is read as a whole, and decoded no finer than it has to be to find what is wrong with it
DEEP = 24  # the byte of a PNG that holds its bits

Report = dict[str, Any]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Look:
    """What one file showed: why it cannot be read, if so; the hash of its content; width and height; its kinds."""

    bad: str | None = None
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    kinds: tuple[str, ...] = ()


def survey(
    name: str, image_size: int | None = None, workers: int | None = None, progress: Progress = lambda *_: None
) -> tuple[Report, str | None]:
    """What ``sslzoo data check --json`` prints, and the sentence that says why a run would not train, if it would not.

    Raises `UserError` for what is no folder and no .npz file.
    """
    check_numbers(image_size=image_size, workers=workers)
    path = Path(os.path.expanduser(name))
    if path.suffix == ".npz" and not os.path.isdir(path):
        return _arrays(name, image_size)
    if not os.path.isdir(path):
        raise UserError(f"There is no folder {path}; give a folder of images or an .npz file.")
    try:
        listing = list_folder(path)
    except UserError as error:
        return {**_nothing(), "skipped": skipped(path, ())}, str(error)
    splits = {"train": listing.train, **({"test": listing.test} if listing.test else {})}
    paths = [one for split in splits.values() for one in split.images.paths]
    looks: dict[Path, Look] = {}
    with ThreadPoolExecutor(readers() if workers is None else max(workers, 1)) as pool:
        for one, found in zip(paths, pool.map(look, paths), strict=True):
            looks[one] = found
            progress("images", len(looks), len(paths))
    listing.train.bad.reasons |= {one: found.bad for one, found in looks.items() if found.bad is not None}
    why = refusal(listing, looks)
    digests = {key: [(one, looks[one].digest) for one in split.images.paths] for key, split in splits.items()}
    report = {
        "images": len(paths),
        "splits": {key: counted(split, listing.names) for key, split in splits.items()},
        "bad": listing.train.bad.rows(),
        "kinds": dict(Counter(kind for found in looks.values() for kind in found.kinds).most_common()),
        "skipped": skipped(path, paths),
        "duplicates": duplicates(digests),
        "sizes": sizes([found.size for found in looks.values() if found.bad is None], image_size),
        "empty_classes": listing.empty,
        "lone_classes": listing.lone,
        "notes": listing.notes + ["no labels: health is shown, kNN is left out"] * (not listing.names),
        "ok": why is None,
    }
    return report, why


def look(path: Path) -> Look:
    """Read a file."""
    try:
        picture = Picture(path)
        kinds = tuple(kinds_of(picture))  # before the pixels are read, which changes what is known of the file
        picture.pixels(COARSE)
    except Unreadable as error:
        return Look(bad=error.reason)
    return Look(None, hashlib.sha1(picture.file).digest(), (picture.width, picture.height), kinds)


def kinds_of(picture: Picture) -> Iterator[str]:
    """What deserves a word of an image that can be read."""
    image, file = picture.image, picture.file
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo with its preview
        yield "animated"
    if image.mode == "CMYK":
        yield "CMYK"
    if image.mode.startswith("I") or (image.format == "PNG" and file[DEEP : DEEP + 1] == b"\x10"):
        yield "16 bits"
    if image.mode in ("P", "PA"):
        yield "palette"
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        yield "transparent"
    if picture.turned:
        yield "turned by EXIF"
    if min(picture.width, picture.height) == 1:
        yield "one pixel thin"
    if picture.width * picture.height > LARGE:
        yield f"over {LARGE / 1e6:.0f} megapixels"


def refusal(listing: Listing, looks: dict[Path, Look]) -> str | None:
    """Why a run with no options would not train on these images."""
    train, bad = listing.train, listing.train.bad
    try:
        for split in (train, listing.test):
            if split is not None and not len(split.readable()):
                raise bad.all_of(split.images.paths)
        if listing.names and listing.test is None:
            train = hold_out(train, [looks[one].digest or hashlib.sha1(b"").digest() for one in train.images.paths])[0]
        bad.check(MOST_BAD)
    except UserError as error:
        return str(error)
    return None if len(train.readable()) > 1 else f"{train.bad.folder} has one image to train on; add more."


def counted(split: Split, names: Sequence[str]) -> Report:
    """The images of a split, and of each of its classes."""
    per_class = [] if split.labels is None else np.bincount(split.labels.numpy(), minlength=len(names)).tolist()
    return {"images": len(split), "classes": dict(zip(names, per_class, strict=False))}


def skipped(root: Path, used: Sequence[Path]) -> dict[str, int]:
    """How many files below a folder are no images of a run, by why."""
    own, count = set(used), Counter[str]()
    for folder, folders, names in os.walk(root):
        count["hidden folders"] += sum(name.startswith(".") for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(folder) / name for name in names):
            if path in own:
                continue
            if path.name.startswith("."):
                kind = "hidden files"
            elif not os.path.exists(path):
                kind = "broken links"
            else:
                kind = "images outside the classes and splits" if path.suffix.lower() in SUFFIXES else "other files"
            count[kind] += 1
    return {kind: n for kind, n in count.items() if n}


def duplicates(hashes: dict[str, list[tuple[Path, bytes]]]) -> Report:
    """Images of equal content: how many a split could go without, how many of test are in train, and which they are."""
    groups: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for split, pairs in hashes.items():
        for path, digest in pairs:
            if digest:
                groups[digest].append((split, str(path)))
    several = [group for group in groups.values() if len(group) > 1]
    count = [Counter(split for split, _ in group) for group in several]
    return {
        "within": {split: sum(max(c[split] - 1, 0) for c in count) for split in hashes},
        "across": sum(c["test"] for c in count if c["train"]),
        "groups": [[path for _, path in group] for group in several],
    }


def sizes(found: Sequence[tuple[int, int]], image_size: int | None) -> Report:
    """The smallest, the median and the largest width and height; the size of a view, and images that are smaller."""
    if not found:
        return {}
    sides = np.array(found)
    view = image_size or min(int(np.median(sides.min(axis=1))), MOST)
    report: Report = {"view": view, "smaller": int((sides.min(axis=1) < view).sum())}
    for key, side in zip(("width", "height"), sides.T, strict=True):
        report[key] = {"min": int(side.min()), "median": int(np.median(side)), "max": int(side.max())}
    return report


def _nothing() -> Report:
    """The report of a folder in which nothing can be looked at."""
    empty: Report = {"images": 0, "splits": {}, "bad": [], "kinds": {}, "skipped": {}, "duplicates": duplicates({})}
    return {**empty, "sizes": {}, "empty_classes": [], "lone_classes": {}, "notes": [], "ok": False}


def _arrays(name: str, image_size: int | None) -> tuple[Report, str | None]:
    """The report of an .npz file, whose images are there or not, all of them."""
    dataset = sets.load(name, image_size)
    splits = {"train": dataset.bank, **({"test": dataset.test} if dataset.test else {})}
    rows = {
        key: [(Path(f"{key}:{name}"), digest) for name, digest in zip(s.images.names, s.images.digests(), strict=True)]
        for key, s in splits.items()
    }
    last = max((int(s.labels.max()) for s in splits.values() if s.labels is not None), default=-1)
    numbers = [str(i) for i in range(last + 1)]
    report = {
        "images": sum(map(len, splits.values())),
        "splits": {key: counted(split, numbers) for key, split in splits.items()},
        "duplicates": duplicates(rows),
        "sizes": sizes([(dataset.size, dataset.size)], image_size),
        "notes": list(dataset.notes),
        "ok": True,
    }
    return {**_nothing(), **report}, None
