"""A tree of folders, each of which is read once, when somebody first asks what lies in it."""

import os
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ...tools.progress import Work
from ..picture import is_picture
from .paths import prefix

IGNORED = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}  # beside hidden folders
UNREADABLE = {".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".psd", ".svg"}
BROKEN = "broken link"  # beside the suffixes of files that cannot be read


class Entries(NamedTuple):
    """What lies in a folder, less what is hidden, is a system's, or is a link back to a folder on the way here.

    ``images`` are the names of images and ``folders`` the folders, both in order of their names; ``others`` counts
    pictures of a kind that cannot be read here, by suffix, and broken links to pictures.
    """

    images: list[str]
    folders: "list[Folder]"
    others: Counter[str]


class Folder:
    """Is a folder of a tree. Raises `OSError` where it may not be read, once it is asked for what it holds.

    Whether something is a folder, a file or a link is what its folder's listing says of it: of a million files none is
    asked for itself. Only links are followed. Folders of which ``without`` has the paths, without links, are left out;
    files of the suffixes ``more`` are images, too.
    """

    def __init__(
        self,
        path: Path | str,
        work: Work,
        above: "Folder | None" = None,
        without: Set[str] = frozenset(),
        more: Set[str] = frozenset(),
    ):
        self.more = more
        self.text, self.name, self.work, self.above, self.without = str(path), Path(path).name, work, above, without

    @property
    def path(self) -> Path:
        """The path of the folder."""
        return Path(self.text)

    @property
    def images(self) -> list[str]:
        """The names of the images that lie in the folder itself."""
        return self.entries.images

    @property
    def folders(self) -> "list[Folder]":
        """The folders in the folder."""
        return self.entries.folders

    @property
    def others(self) -> Counter[str]:
        """The pictures in the folder itself that cannot be read here, and broken links to pictures."""
        return self.entries.others

    @cached_property
    def entries(self) -> Entries:
        """What lies in the folder, read when it is first asked for."""
        images: list[str] = []
        folders: list[Folder] = []
        others: Counter[str] = Counter()
        first = ""
        with os.scandir(self.text) as found:
            for entry in found:
                name = entry.name
                first = first or entry.path
                if name.startswith(".") or name.lower() in IGNORED:
                    continue
                suffix, link = _suffix(name), entry.is_symlink()
                if _is_folder(entry, link):
                    apart = bool(self.without) and os.path.realpath(entry.path) in self.without
                    if not (apart or (link and self.is_below(os.path.realpath(entry.path)))):
                        folders.append(Folder(prefix(self.text) + name, self.work, self, self.without, self.more))
                elif (is_picture(suffix) or suffix in self.more) and _is_file(entry, link):
                    images.append(name)
                elif link and not os.path.exists(entry.path):
                    others.update([BROKEN] if is_picture(suffix) else [])
                elif suffix in UNREADABLE:
                    others[suffix] += 1
        if first:
            with suppress(FileNotFoundError):
                os.lstat(first)  # which fails where a folder may be listed, and nothing in it may be reached
        images.sort(key=os.path.normcase)
        folders.sort(key=lambda folder: os.path.normcase(folder.name))
        self.work.add(len(images))
        return Entries(images, folders, others)

    @cached_property
    def real(self) -> str:
        """The path of the folder without links."""
        return os.path.realpath(self.text)

    def is_below(self, real: str) -> bool:
        """Return whether a folder, by its path without links, holds this one or one that led here, or is one of them.

        Folders that hold links to each other are a circle of which none lies in the other.
        """
        one: Folder | None = self
        while one is not None:
            if one.real == real or one.real.startswith(prefix(real)):
                return True
            one = one.above
        return False

    def below(self) -> "Iterator[Folder]":
        """Yield the folder and all folders below it."""
        left = [self]
        while left:
            yield (folder := left.pop())
            left += reversed(folder.folders)

    def count(self) -> int:
        """Return the number of images at any depth."""
        return sum(len(folder.images) for folder in self.below())

    def has_images(self) -> bool:
        """Return whether there is an image at any depth."""
        return any(folder.images for folder in self.below())

    def parts(self) -> "Iterator[Folder | list[str]]":
        """Yield what lies in the folder in order of the names: folders, and the images between two of them."""
        images, start = [*map(os.path.normcase, self.images)], 0
        for folder in self.folders:
            end = bisect(images, os.path.normcase(folder.name), start)
            if end > start:
                yield self.images[start:end]
            yield folder
            start = end
        if start < len(images):
            yield self.images[start:]

    def runs(self) -> "Iterator[tuple[Folder, list[str]]]":
        """Yield the paths of all images at any depth, in order, as lists of neighbours in one folder, and this."""
        left = [(self, self.parts())]
        while left:
            folder, parts = left[-1]
            part = next(parts, None)
            if part is None:
                left.pop()
            elif isinstance(part, Folder):
                left.append((part, part.parts()))
            else:
                yield folder, folder.paths(part)

    def paths(self, names: list[str]) -> list[str]:
        """Return the paths of files of the folder."""
        start = prefix(self.text)
        return [start + name for name in names]


def _suffix(name: str) -> str:
    """Return the suffix of a name that does not begin with a dot, in small letters."""
    place = name.rfind(".")
    return name[place:].lower() if place > 0 else ""


def _is_folder(entry: "os.DirEntry[str]", link: bool) -> bool:
    """Return whether an entry is a folder, or leads to one; `pathlib` is at ease with links that lead nowhere."""
    return Path(entry.path).is_dir() if link else entry.is_dir()


def _is_file(entry: "os.DirEntry[str]", link: bool) -> bool:
    """Return whether an entry is a regular file, or leads to one."""
    return Path(entry.path).is_file() if link else entry.is_file()
