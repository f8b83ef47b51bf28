"""One folder of pictures as it lies there: its classes, what lies beside them, and what cannot be read."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .contents.hashes import Hashes
from .images import FileImages
from .picture import SUFFIXES, is_image
from .splits import Split
from .unreadable import UnreadableImages

NAMED = 5  # names in a note
IGNORED = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}  # beside hidden folders
UNREADABLE = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".psd", ".svg"}
BROKEN = "broken link"  # beside the suffixes of files that cannot be read
STRAY = 0.1  # of the images, at most, that lie beside folders of classes and take their labels from nobody


@dataclass(frozen=True)
class Home:
    """Holds a folder of one split: its classes by name, the images beside them, and files that nobody here can read."""

    path: Path
    classes: dict[str, list[Path]]
    empty: list[str]
    strays: list[Path]
    others: Counter[str]  # by suffix, or as broken links

    @property
    def sorted_out(self) -> bool:
        """Return whether the folders are classes: there are some, and few images lie beside them."""
        inside = sum(map(len, self.classes.values()))
        return bool(self.classes) and len(self.strays) <= (STRAY * inside if len(self.classes) > 1 else 0)

    @property
    def paths(self) -> list[Path]:
        """Return all images, in order of their paths."""
        return sorted([*self.strays, *(path for paths in self.classes.values() for path in paths)])

    def split(self, names: Sequence[str], unreadable: UnreadableImages, hashes: Hashes) -> Split:
        """Return the images in order of their paths, labelled by their class where there are names of classes."""
        paths = self.paths
        images = FileImages(tuple(paths), hashes, unreadable.shown)
        if not names:
            return Split(images, unreadable=unreadable)
        number = {path: names.index(name) for name, inside in self.classes.items() for path in inside}
        labels = torch.tensor([number.get(path, -1) for path in paths], dtype=torch.long)
        return Split(images, labels, unreadable=unreadable)


def some(names: Sequence[str]) -> str:
    """Return the first of many names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def count(number: int, word: str, words: str | None = None) -> str:
    """Return a number with its word, in the plural but for one."""
    return f"{number} {word if number == 1 else words or word + 's'}"


def natural(name: str) -> list[str | int]:
    """Return a key that sorts numbers in names by their value: 1, 2, 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def folders_in(start: Path) -> list[Path]:
    """Return the folders in a folder, less hidden ones and those of systems, in natural order."""
    found = (path for path in start.iterdir() if not path.name.startswith(".") and path.name.lower() not in IGNORED)
    return sorted(
        (path for path in found if path.is_dir() and not _leads_up(path)), key=lambda path: natural(path.name)
    )


def _leads_up(path: Path) -> bool:
    """Return whether a folder is a link to one that it lies in."""
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def image_paths(start: Path, others: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the images below a folder at any depth, less what is hidden; no link back to a folder above is followed.

    ``others`` counts pictures of a kind that cannot be read here, by suffix, and broken links to pictures.
    """
    for path in start.iterdir():
        if path.name.startswith(".") or path.name.lower() in IGNORED:
            continue
        if path.is_dir():
            if not _leads_up(path):
                yield from image_paths(path, others)
        elif is_image(path):
            yield path
        elif others is not None:
            others.update(_other(path))


def _other(path: Path) -> list[str]:
    """Return of what kind a file is that is a picture and cannot be read here, if it is."""
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        return [BROKEN] if suffix in SUFFIXES else []
    return [suffix] if suffix in UNREADABLE else []


def home(path: Path, left_out: Sequence[Path] = ()) -> Home:
    """Return what a folder of a split holds, but for the folders that are left out."""
    others = Counter[str]()
    inside: dict[str, list[Path]] = {}
    for one in folders_in(path):
        if one not in left_out:  # a name is written in two ways where it was zipped on a Mac
            inside.setdefault(unicodedata.normalize("NFC", one.name), []).extend(image_paths(one, others))
    strays = []
    for one in path.iterdir():
        if is_image(one):
            strays.append(one)
        elif not one.is_dir() and not one.name.startswith("."):
            others.update(_other(one))
    classes = {name: paths for name, paths in inside.items() if paths}
    return Home(path, classes, [name for name, paths in inside.items() if not paths], strays, others)
