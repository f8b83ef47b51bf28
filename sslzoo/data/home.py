"""One folder of pictures as it lies there: its classes, what lies beside them, and what cannot be read."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .contents.hashes import Hashes
from .images import FileImages
from .listed.paths import Paths
from .listed.tree import Folder
from .splits import Split
from .unreadable import UnreadableImages

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

    @property
    def strays(self) -> list[str]:
        """Return the names of the images that lie beside the folders of classes."""
        return self.folder.images

    @property
    def sorted_out(self) -> bool:
        """Return whether the folders are classes: there are some, and few images lie beside them."""
        return bool(self.classes) and len(self.strays) <= (STRAY * self.inside if len(self.classes) > 1 else 0)

    def split(self, names: Sequence[str], unreadable: UnreadableImages, hashes: Hashes) -> Split:
        """Return the images in order of their paths, labelled by their class where there are names of classes."""
        number = {name: place for place, name in enumerate(names)}
        numbers = {one.text: number.get(name, -1) for name, folders in self.classes.items() for one in folders}
        texts: list[str] = []
        labels: list[int] = []
        sizes: list[int] = []
        for part in self.folder.parts():
            before, label = len(texts), -1
            if isinstance(part, Folder):
                label = numbers.get(part.text, -1)
                for run in part.runs():
                    texts += run
            else:
                texts += self.folder.paths(part)
            labels.append(label)
            sizes.append(len(texts) - before)
        images = FileImages(Paths(texts), hashes, unreadable.shown)
        if not names:
            return Split(images, unreadable=unreadable)
        return Split(images, _repeated(labels, sizes), unreadable=unreadable)


def _repeated(labels: Sequence[int], times: Sequence[int]) -> Tensor:
    """Return each label so many times, int64 [N]."""
    return torch.tensor(labels, dtype=torch.long).repeat_interleave(torch.tensor(times, dtype=torch.long))


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


def home(folder: Folder) -> Home:
    """Return what a folder of a split holds."""
    inside: dict[str, list[Folder]] = {}
    for one in in_natural_order(folder.folders):  # a name is written in two ways where it was zipped on a Mac
        inside.setdefault(unicodedata.normalize("NFC", one.name), []).append(one)
    sizes = {name: sum(one.count() for one in folders) for name, folders in inside.items()}
    classes = {name: folders for name, folders in inside.items() if sizes[name]}
    others: Counter[str] = Counter()
    for one in folder.below():
        others.update(one.others)
    return Home(folder, classes, [name for name, size in sizes.items() if not size], sum(sizes.values()), others)
