"""Which format data are in: the one list of formats, by suffix, by scheme and by what a folder holds."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..decoded.ranges import Range
from ..folders import of_listing
from ..given.options import DataOptions
from ..given.places import Listing, list_data
from ..listed.tree import IGNORED
from ..picture import is_picture
from ..splits import Dataset
from .arrays import from_arrays
from .spelling import SCHEME, Spelled


@dataclass(frozen=True)
class Format:
    """Declares a format: the file of this folder that reads it, and how its data are known.

    Its file has ``listed(spelled, shown)``, which returns a `Listing`, or ``arrays(name)``, which returns arrays by
    MedMNIST's keys, or both, where the first may return None. ``suffixes`` are those of files, which a folder may hold
    too where ``in_folders`` says so; ``inside`` are files of which a folder has all, of one group; ``scheme`` stands
    before names.
    """

    module: str
    words: str
    suffixes: tuple[str, ...] = ()
    inside: tuple[tuple[str, ...], ...] = ()
    in_folders: bool = True
    scheme: str = ""

    @property
    def reads_files(self) -> bool:
        """Whether its images are read one by one when they are needed, for all its data."""
        return bool(self.suffixes or self.inside)

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return a function of the format's file, if it has one of that name."""
        found: Callable[..., Any] | None = getattr(import_module(f".{self.module}", __package__), name, None)
        return found


FORMATS = (
    Format("paths", "a .csv of paths", suffixes=(".csv", ".tsv"), in_folders=False),
    Format("webdataset", "WebDataset's .tar files", suffixes=(".tar",)),
    Format("parquet", "a .parquet with images", suffixes=(".parquet",)),
    Format(
        "huggingface",
        "a folder of save_to_disk",
        inside=(("dataset_dict.json",), ("dataset_info.json", "state.json")),
        scheme="hf",
    ),
    Format("torchvision_sets", "torchvision:NAME", scheme="torchvision"),
    Format("medmnist", "medmnist:NAME", scheme="medmnist"),
)


def find(name: str) -> tuple[Format, Spelled] | None:
    """Return the format of data by their name, and the parts of the name; None where they are in none of these.

    A folder with pictures is a folder of pictures, whatever lies beside these. Raises `UserError`.
    """
    if (scheme := SCHEME.match(name)) is not None:
        for one in FORMATS:
            if one.scheme and scheme[0] == one.scheme + ":":
                return one, Spelled(name, name)
    spelled = Spelled.of(name)
    path = Path(spelled.text)
    if path.is_dir():
        for one in FORMATS:
            if any(all((path / name).is_file() for name in names) for names in one.inside):
                return one, spelled
        there = _suffixes(path)
        return next(((one, spelled) for one in FORMATS if one.in_folders and there & {*one.suffixes}), None)
    suffix = path.suffix.lower()
    return next(((one, spelled) for one in FORMATS if suffix in one.suffixes), None)


def listed(name: str, shown: Range | None) -> Listing | None:
    """Return the images of data in files of a format; None where they are in none. Raises `UserError`."""
    if (found := find(name)) is None or (read := found[0].function("listed")) is None:
        return None
    listing: Listing | None = read(found[1], shown)
    return listing


def listing_of(given: DataOptions, shown: Range | None) -> Listing | None:
    """Return the images of data in files of a format, with the splits and labels that are given beside.

    It is None where they are in none of these. Raises `UserError`.
    """
    if (main := listed(given.place, shown)) is None:
        return None
    return list_data(given, shown, lambda text, shown: main if text == given.place else listed(text, shown))


def dataset(given: DataOptions, shown: Range | None) -> Dataset:
    """Return the data set of data in one of the formats. Raises `UserError`."""
    if (listing := listing_of(given, shown)) is not None:
        return of_listing(listing)
    name = given.place
    found = find(name)
    assert found is not None  # who calls this has asked
    arrays = found[0].function("arrays")
    assert arrays is not None  # a format has one of the two
    return from_arrays(name, arrays(name.partition(":")[2]), own=True, shown=shown)


def _suffixes(folder: Path) -> set[str]:
    """Return the suffixes of the files below a folder; none where it has a picture, which ends the look."""
    found: set[str] = set()
    left, seen = [str(folder)], set[str]()
    while left:
        seen.add(here := os.path.realpath(left.pop()))
        with suppress(OSError), os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in IGNORED:
                    continue
                if entry.is_dir():
                    left += [entry.path] if os.path.realpath(entry.path) not in seen else []
                elif is_picture(suffix := os.path.splitext(entry.name)[1].lower()):
                    return set()
                else:
                    found.add(suffix)
    return found
