"""One folder of pictures as it lies there: its classes, what lies beside them, and what cannot be read."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .given.part import Part
from .listed.tree import Folder

NAMED = 5  # names in a note
STRAY = 0.1  # of the images, at most, that lie beside folders of classes and take their labels from nobody


@dataclass(frozen=True)
class Home:
    """Holds a folder of one split: its classes by name, the images beside them, and files that nobody here can read."""

    folder: Folder
    classes: dict[str, list[Folder]]
    empty: list[str]
    inside: int  # images in the folders of classes
    others: Counter[str]  # by suffix, or as broken links
    depth: int | None = None  # of the classes, where a person says it

    @property
    def strays(self) -> list[str]:
        """Return the names of the images that lie beside the folders of classes."""
        left, names = [(self.folder, 1)], list[str]()
        while left:
            folder, level = left.pop()
            names += folder.images
            left += [(one, level + 1) for one in folder.folders] if level < (self.depth or 1) else []
        return names

    @property
    def sorted_out(self) -> bool:
        """Return whether the folders are classes: a person says so, or few images lie beside them."""
        if self.depth is not None:
            return bool(self.classes)
        return bool(self.classes) and len(self.strays) <= (STRAY * self.inside if len(self.classes) > 1 else 0)

    def part(self, labelled: bool) -> Part:
        """Return the images in order of their paths, labelled by their class if they are to be."""
        names = sorted(sorted(self.classes), key=natural)
        numbers = {one.text: place for place, name in enumerate(names) for one in self.classes[name]}
        texts: list[str] = []
        labels: list[int] = []
        sizes: list[int] = []
        for folder, run in self.folder.runs():
            texts += run
            sizes.append(len(run))
            labels.append(self._label(folder, numbers) if labelled else -1)
        if not labelled:
            return Part(texts)
        return Part(texts, np.repeat(np.array(labels, np.int64), np.array(sizes, np.int64)), names)

    def _label(self, folder: Folder, numbers: dict[str, int]) -> int:
        """Return the number of the class that a folder lies in; -1 where it lies in none."""
        one: Folder | None = folder
        while one is not None and one.text not in numbers:
            one = one.above
        return -1 if one is None else numbers[one.text]


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


def in_natural_order(folders: Sequence[Folder]) -> list[Folder]:
    """Return folders with numbers in their names in order of these."""
    return sorted(folders, key=lambda folder: natural(folder.name))


def home(folder: Folder, depth: int | None = None) -> Home:
    """Return what a folder of a split holds; its classes are the folders of a level below it, by default the first."""
    inside: dict[str, list[Folder]] = {}
    for one in _level(folder, depth or 1):  # a name is written in two ways where it was zipped on a Mac
        inside.setdefault(unicodedata.normalize("NFC", one.name), []).append(one)
    sizes = {name: sum(one.count() for one in folders) for name, folders in inside.items()}
    classes = {name: folders for name, folders in inside.items() if sizes[name]}
    others: Counter[str] = Counter()
    for one in folder.below():
        others.update(one.others)
    empty = [name for name, size in sizes.items() if not size]
    return Home(folder, classes, empty, sum(sizes.values()), others, depth)


def _level(folder: Folder, depth: int) -> list[Folder]:
    """Return the folders of a level below a folder, in natural order."""
    if depth == 1:
        return in_natural_order(folder.folders)
    return [below for one in in_natural_order(folder.folders) for below in _level(one, depth - 1)]
