"""Which format data are in: the one list of formats, by suffix, by scheme and by what a folder holds."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..depth import Range
from ..folders import of_listing
from ..given.options import DataOptions
from ..given.places import Listing, list_data
from ..picture import is_picture
from ..splits import Dataset
from .arrays import from_arrays
from .spelling import SCHEME, Spelled

MOST = 10_000  # entries of a folder that are looked at


@dataclass(frozen=True)
class Format:
    """Declares a format: the file of this folder that reads it, and how its data are known.

    Its file has ``listed(spelled, shown)``, which returns a `Listing`, or ``arrays(name)``, which returns arrays by
    MedMNIST's keys, or both, where the first may return None. ``suffixes`` are those of files, which a folder may hold
    too; ``inside`` is a file by which a folder is known; ``scheme`` stands before names.
    """

    module: str
    words: str
    suffixes: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
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
    Format("paths", "a .csv of paths", suffixes=(".csv", ".tsv")),
    Format("webdataset", "WebDataset's .tar files", suffixes=(".tar",)),
    Format("parquet", "a .parquet with images", suffixes=(".parquet",)),
    Format("huggingface", "a folder of save_to_disk", inside=("dataset_dict.json", "state.json"), scheme="hf"),
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
        return next(((one, spelled) for one in FORMATS if _is_of(one, path)), None)
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


def _is_of(one: Format, folder: Path) -> bool:
    """Return whether a folder without pictures holds files of a format."""
    if any((folder / name).is_file() for name in one.inside):
        return True
    return bool(one.suffixes) and ".csv" not in one.suffixes and any(f.endswith(one.suffixes) for f in _files(folder))


def _files(folder: Path) -> Iterator[str]:
    """Yield names of files below a folder in small letters, of many only the first; none where a picture is there."""
    names: list[str] = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [name.lower() for name in files if not name.startswith(".")]
        if any(is_picture(os.path.splitext(name)[1]) for name in names):
            return
        if len(names) > MOST or here.count(os.sep) - str(folder).count(os.sep) > 2:
            break
    yield from names
