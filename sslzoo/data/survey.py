"""What a folder or an .npz holds, every image read once: the report of ``sslzoo data check``."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..processes.launched import readers
from ..tools.bounds import check_numbers
from ..tools.errors import UserError
from ..tools.records import Record
from . import sets
from .contents.hashes import NOTHING
from .decoded.bands import BandPicture, opened
from .decoded.ranges import Range, reading
from .folders import of_listing, placed, sized
from .formats import kinds
from .given.options import DataOptions
from .given.places import Listing, list_data
from .layout import NO_LABELS
from .listed.paths import prefix
from .picture import LARGE, Picture, UnreadableImage, is_picture
from .sample import flat_note, is_flat
from .splits import MAX_VIEW_SIZE, Split
from .unreadable import MAX_SHARE, UnreadableRow

CHUNK = 4096  # images that are queued at a time

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SurveyedFile:
    """What one file showed: why it cannot be read, if so; the hash of its content; width and height; its kinds.

    ``flat`` says whether it is nearly one colour.
    """

    unreadable: str | None = None
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    kinds: tuple[str, ...] = ()
    flat: bool = False


@dataclass(frozen=True)
class SplitCount(Record):
    """How many images a split has, and each of its classes."""

    images: int
    classes: Mapping[str, int]


@dataclass(frozen=True)
class Spread(Record):
    """Holds the smallest, the median and the largest of numbers."""

    min: int
    median: int
    max: int


@dataclass(frozen=True)
class Sizes(Record):
    """The size of a view, how many images are smaller, and the images' widths and heights, all in px."""

    view: int
    smaller: int
    width: Spread
    height: Spread


@dataclass(frozen=True)
class NoSizes(Record):
    """The sizes where no image can be read: an empty object in JSON."""


@dataclass(frozen=True)
class Duplicates(Record):
    """Counts images of equal content.

    ``within`` counts those that each split could go without, ``across`` those of test that are in train too; ``groups``
    are the images that are equal.
    """

    within: Mapping[str, int]
    across: int
    groups: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report(Record):
    """What ``sslzoo data check`` finds; without arguments, of a folder in which nothing can be looked at."""

    images: int = 0
    splits: Mapping[str, SplitCount] = field(default_factory=dict)
    unreadable: Sequence[UnreadableRow] = field(default=(), metadata={"key": "bad"})
    kinds: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    duplicates: Duplicates = Duplicates({}, 0, ())
    sizes: Sizes | NoSizes = NoSizes()
    empty_classes: Sequence[str] = ()
    lone_classes: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    ok: bool = False

    @property
    def measured(self) -> Sizes | None:
        """The sizes, where some image can be read."""
        return self.sizes if isinstance(self.sizes, Sizes) else None


def survey(
    given: DataOptions | str, workers: int | None = None, progress: Progress = lambda *_: None
) -> tuple[Report, str | None]:
    """Return the report of a folder or an .npz file, and why a run would not train on it, if it would not.

    Raises `UserError` for what is no folder and no .npz file.
    """
    given = DataOptions(given) if isinstance(given, str) else given
    check_numbers(image_size=given.image_size, workers=workers)
    sets.check_memory(given.memory)
    given.check()
    image_size, shown = given.image_size, reading(given.range, given.channels)
    path = Path(os.path.expanduser(given.place))
    if path.suffix == ".npz" and not os.path.isdir(path):
        return survey_arrays(given), None
    form = kinds.find(given.place)
    listing = None if form is None else kinds.listing_of(given, shown)
    if form is not None and listing is None:
        return survey_arrays(given), None
    if listing is None and not os.path.isdir(path):
        raise UserError(f"There is no folder {path}; give a folder of images, an .npz file or another form of data.")
    try:
        listing = listing or list_data(given, shown, kinds.listed)
    except UserError as error:
        return Report(skipped=skipped(path, ())), str(error)
    three = {"train": listing.train, "val": listing.val, "test": listing.test}
    splits = {key: split for key, split in three.items() if split is not None}
    paths = [one for split in splits.values() for one in split.images.paths]
    seen: dict[Path, SurveyedFile] = {}
    for one, file in survey_files(paths, shown, readers() if workers is None else max(workers, 1)):
        seen[one] = file
        progress("images", len(seen), len(paths))
    unreadable = listing.train.unreadable
    unreadable.reasons |= {one: file.unreadable for one, file in seen.items() if file.unreadable is not None}
    decisions, why = verdict(listing, seen, given)
    flat = [str(one) for one, file in seen.items() if file.flat]
    digests = {key: [(str(one), seen[one].digest) for one in split.images.paths] for key, split in splits.items()}
    report = Report(
        images=len(paths),
        splits={key: count_split(split, dict(enumerate(listing.names))) for key, split in splits.items()},
        unreadable=unreadable.rows(),
        kinds=dict(Counter(kind for file in seen.values() for kind in file.kinds).most_common()),
        skipped=skipped(path, paths) if form is None else {},
        duplicates=duplicates(digests),
        sizes=sizes([file.size for file in seen.values() if file.unreadable is None], image_size),
        empty_classes=listing.empty,
        lone_classes=listing.lone,
        notes=[*decisions, *flat_note(flat, len(seen), shown)],
        ok=why is None,
    )
    return report, why


def survey_files(paths: Sequence[Path], shown: Range | None, workers: int) -> Iterator[tuple[Path, SurveyedFile]]:
    """Yield each file with what it showed, in order; few of a million wait at a time."""
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), CHUNK):
            part = paths[start : start + CHUNK]
            yield from zip(part, pool.map(partial(survey_file, shown=shown), part), strict=True)


def survey_file(path: Path, shown: Range | None = None) -> SurveyedFile:
    """Read a file and return what it showed; ``shown`` is `Picture`'s."""
    try:
        picture = opened(path, shown)
        kinds = tuple(kinds_of(picture))  # before the pixels are read, which changes what is known of the file
        flat = is_flat(picture)
    except UnreadableImage as error:
        return SurveyedFile(unreadable=error.reason)
    return SurveyedFile(None, hashlib.sha1(picture.file).digest(), (picture.width, picture.height), kinds, flat)


def kinds_of(picture: Picture) -> Iterator[str]:
    """Yield what deserves a word of an image that can be read."""
    if isinstance(picture, BandPicture):
        return
    image = picture.image
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo with its preview
        yield "animated"
    if image.mode == "CMYK":
        yield "CMYK"
    if picture.depth is not None:
        yield picture.depth.name
    if image.mode in ("P", "PA"):
        yield "palette"
    if image.has_transparency_data:
        yield "transparent"
    if picture.turned:
        yield "turned by EXIF"
    if min(picture.width, picture.height) == 1:
        yield "one pixel thin"
    if picture.width * picture.height > LARGE:
        yield f"over {LARGE / 1e6:.0f} megapixels"


def verdict(
    listing: Listing, seen: Mapping[Path, SurveyedFile], given: DataOptions
) -> tuple[Sequence[str], str | None]:
    """Return what a run would decide about these images, and why it would not train on them, if it would not."""
    train, unreadable, nothing = listing.train, listing.train.unreadable, bytes.fromhex(NOTHING)
    decisions: Sequence[str] = [*listing.notes, *[NO_LABELS] * (not listing.names)]
    try:
        found = of_listing(listing, [seen[one].digest or nothing for one in train.images.paths])
        found = sized(found, given.image_size or found.size)
        decisions = [*found.notes, placed(found, given.memory)[1]]
        for split in (listing.train, listing.val, listing.test):
            if split is not None and not len(split.readable()):
                raise unreadable.none_readable(split.images.paths)
        unreadable.check_share(MAX_SHARE if given.max_bad is None else given.max_bad)
    except UserError as error:
        return decisions, str(error)
    few = f"{unreadable.folder} has one image to train on; add more."
    return decisions, None if len(found.train.readable()) > 1 else few


def count_split(split: Split, names: Mapping[int, str]) -> SplitCount:
    """Count the images of a split, and of each of its classes, whose names are given by their numbers."""
    labels = split.labelled().labels
    if labels is None:
        return SplitCount(len(split), {})
    numbers = labels.nonzero()[:, 1] if labels.ndim == 2 else labels
    counts = Counter(numbers.tolist())
    return SplitCount(len(split), {name: counts[number] for number, name in names.items()})


def skipped(root: Path, used: Sequence[Path]) -> dict[str, int]:
    """Return how many files below a folder are no images of a run, by why."""
    own, count = set(map(str, used)), Counter[str]()
    for folder, folders, names in os.walk(root):
        count["hidden folders"] += sum(name.startswith(".") for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
        start = prefix(str(Path(folder)))
        for name in names:
            if start + name in own:
                continue
            if name.startswith("."):
                kind = "hidden files"
            elif not os.path.exists(start + name):
                kind = "broken links"
            else:
                image = is_picture(Path(name).suffix.lower()) and os.path.isfile(start + name)
                kind = "images outside the classes and splits" if image else "other files"
            count[kind] += 1
    return {kind: n for kind, n in count.items() if n}


def duplicates(digests: Mapping[str, Sequence[tuple[str, bytes]]]) -> Duplicates:
    """Return which images are equal, of splits of names and hashes; those without a hash are left out."""
    groups: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for split, pairs in digests.items():
        for name, digest in pairs:
            if digest:
                groups[digest].append((split, name))
    several = [group for group in groups.values() if len(group) > 1]
    count = [Counter(split for split, _ in group) for group in several]
    return Duplicates(
        within={split: sum(max(c[split] - 1, 0) for c in count) for split in digests},
        across=sum(c["test"] for c in count if c["train"]),
        groups=[[name for _, name in group] for group in several],
    )


def sizes(widths_heights: Sequence[tuple[int, int]], image_size: int | None) -> Sizes | NoSizes:
    """Return how wide and high images are, and what a view of them would have; ``image_size`` is that of a view."""
    if not widths_heights:
        return NoSizes()
    sides = np.array(widths_heights)
    view = image_size or min(int(np.median(sides.min(axis=1))), MAX_VIEW_SIZE)
    width, height = (Spread(int(side.min()), int(np.median(side)), int(side.max())) for side in sides.T)
    return Sizes(view, int((sides.min(axis=1) < view).sum()), width, height)


def survey_arrays(given: DataOptions) -> Report:
    """Return the report of an .npz file, whose images are there or not, all of them. Raises `UserError`."""
    dataset = sets.read(given)
    splits = {**dataset.splits, "train": dataset.bank}
    digests = {
        key: [(f"{key}:{place}", digest) for place, digest in enumerate(split.images.digests())]
        for key, split in splits.items()
    }
    return Report(
        images=sum(map(len, splits.values())),
        splits={key: count_split(split, dataset.class_names) for key, split in splits.items()},
        duplicates=duplicates(digests),
        sizes=sizes([(dataset.size, dataset.size)], given.image_size),
        notes=dataset.notes,
        ok=True,
    )
