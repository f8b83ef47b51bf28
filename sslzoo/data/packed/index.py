"""Images inside one file, such as a tar: each has a path that leads into the file, and is read by its place there.

``shards/000.tar/n01.jpg`` is a path that no file system has, since a file is no folder. So it names an image as any
other path does, and whoever reads files by `read` and `state` reads these too.
"""

import errno
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ...tools import files

_known: dict[str, "Index"] = {}  # of this process, by the path of the file that holds the images


@dataclass(frozen=True, eq=False)
class Index:
    """Tells where the images of one file lie, by their names in it.

    ``holder`` is the file that a person has, in the state in which it was listed. The bytes are in ``file``, which is
    the same one or an unpacked copy; of a copy ``sums`` are the CRC-32 of each image. ``spans`` [N, 2] are the first
    byte and the number of bytes.
    """

    holder: str
    state: tuple[int, ...]
    file: str
    places: dict[str, int] = field(repr=False)
    spans: npt.NDArray[np.int64] = field(repr=False)
    sums: npt.NDArray[np.uint32] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, holder: str, file: str, names: Sequence[str], spans: Any, sums: Any = None) -> "Index":
        """Return the index of a file as it is now, which this process knows from then on."""
        places = {name: place for place, name in enumerate(names)}
        assert len(places) == len(names)
        table = np.asarray(spans, np.int64).reshape(-1, 2)
        made = cls(holder, state_of(os.stat(holder)), file, places, table, sums)
        _known[holder] = made
        return made

    def __setstate__(self, kept: dict[str, Any]) -> None:
        """Make a process that is sent an index know it."""
        self.__dict__.update(kept)
        _known[self.holder] = self

    @property
    def texts(self) -> list[str]:
        """The paths of the images."""
        start = self.holder + "/"
        return [start + name for name in self.places]

    def read(self, name: str) -> tuple[bytes, os.stat_result]:
        """Return an image's bytes, and the state of the file that holds it. Raises `OSError`."""
        place = self.places.get(name)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.holder}/{name}")
        found = os.stat(self.holder)
        if state_of(found) != self.state:
            raise OSError(errno.ESTALE, "it has changed since it was listed", self.holder)
        start, size = self.spans[place].tolist()
        number = os.open(self.file, files.READ)  # of its own each time: a process that is copied would share its place
        try:
            content = os.pread(number, size, start)
        finally:
            os.close(number)
        if self.sums is not None and zlib.crc32(content) != self.sums[place]:
            raise OSError(errno.EIO, f"its unpacked copy {self.file} is damaged: remove that", self.holder)
        return content, found


def state_of(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes where a file does."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def known(holder: str) -> Index | None:
    """Return the index that this process has of a file, if the file is still as it was."""
    found = _known.get(holder)
    return found if found is not None and state_of(os.stat(holder)) == found.state else None


def inside(text: str) -> tuple[Index, str] | None:
    """Return the index of the file that a path leads into, and the rest of the path; None where it is a plain path."""
    place = text.rfind("/") if _known else -1
    while place > 0:
        if (found := _known.get(text[:place])) is not None:
            return found, text[place + 1 :]
        place = text.rfind("/", 0, place)
    return None


def read_with_state(path: Path | str, most: int) -> tuple[bytes, os.stat_result]:
    """Return what a file holds, or an image inside one, and the state of the file. Raises `OSError`."""
    if (found := inside(str(path))) is not None:
        return found[0].read(found[1])
    return files.read_with_state(path, most)


def state(text: str) -> os.stat_result:
    """Return the state of a file, or of the one that a path leads into. Raises `OSError`."""
    found = inside(text)
    return os.stat(text if found is None else found[0].holder)


def is_file(text: str) -> bool:
    """Return whether a path leads to a file, or to an image inside one."""
    found = inside(text)
    return os.path.isfile(text) if found is None else found[1] in found[0].places


def plain(name: str) -> str:
    """Return a name in a file as a path that stays below it, as `Path` spells it."""
    parts = [part for part in PurePosixPath(name.replace("\0", "")).parts if part not in ("/", "..", "//")]
    return "/".join(parts)
