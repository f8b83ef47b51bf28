"""Paths of very many files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, overload


class Paths(Sequence[Path]):
    """Holds paths as texts, and makes a `Path` of one when it is asked for.

    A `Path` takes four times the memory of its text, and a second or two a million to be made.
    """

    def __init__(self, texts: Sequence[str] = ()):
        self.texts = texts

    @overload
    def __getitem__(self, place: int) -> Path: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> Path | Self:
        if isinstance(place, slice):
            return type(self)(self.texts[place])
        return Path(self.texts[place])

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.texts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} files)"


def texts_of(paths: Sequence[Path]) -> Sequence[str]:
    """Return the texts of paths."""
    return paths.texts if isinstance(paths, Paths) else [*map(str, paths)]


def taken(paths: Sequence[Path], places: Iterable[int]) -> Paths:
    """Return the paths at these places."""
    texts = texts_of(paths)
    return Paths([texts[place] for place in places])


def prefix(folder: str) -> str:
    """Return what the paths of all that lies in a folder begin with, as `Path` spells them."""
    if folder == os.curdir:
        return ""
    return folder if folder.endswith(os.sep) else folder + os.sep


def relative(texts: Sequence[str], root: Path | None) -> list[str]:
    """Return paths as they are below a folder; the names of the files where there is none."""
    if root is None:
        return [os.path.basename(text) for text in texts]
    if not (start := prefix(str(root))):
        return [os.path.relpath(text, root) for text in texts]
    size = len(start)
    return [text[size:] if text.startswith(start) else os.path.relpath(text, root) for text in texts]
