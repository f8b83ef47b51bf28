"""Stamps of files: a hash of each one's content beside the state in which it was read, and those that the cache keeps.

A stamp is 52 bytes and no object, and those of a folder are one row of bytes: a million are read and compared in
seconds, and take 52 MB.
"""

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType, Self

from ...tools import files
from ..packed import index

Stamp = NewType("Stamp", bytes)  # SHA-1, then a state
MAGIC = b"sslzoo stamps 1\n"
MOST_BYTES = 2**33  # of a file of stamps
SHA1 = 20  # bytes
STATE = struct.Struct("<Qqqq")  # inode, size in bytes, and the times of content and inode in ns
SIZE = SHA1 + STATE.size
NO_STATE = STATE.pack(0, 0, 0, 0)


def state_of(found: os.stat_result) -> bytes:
    """Return the state of a file; `NO_STATE` where a clock of another age has given it times that nothing holds.

    The inode's time is one that nobody sets back, as that of the content can be. The inode tells apart what was written
    in one tick of the clock, as when two folders of an archive swap names.
    """
    try:
        return STATE.pack(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    except struct.error:
        return NO_STATE


def holds(stamp: Stamp, text: str) -> bool:
    """Return whether a file is in the state of a stamp, so that it has its content."""
    try:
        found = index.state(text)
    except (OSError, ValueError):
        return False
    return stamp[SHA1:] == state_of(found) != NO_STATE


@dataclass(frozen=True, eq=False)
class Kept(Mapping[str, Stamp]):
    """Maps names of files to their stamps, which lie one after another."""

    places: dict[str, int] = field(default_factory=dict, repr=False)
    stamps: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, stamps: Mapping[str, Stamp]) -> Self:
        """Return those of a mapping."""
        return cls({name: place for place, name in enumerate(stamps)}, b"".join(stamps.values()))

    def __getitem__(self, name: str) -> Stamp:
        start = SIZE * self.places[name]
        return Stamp(self.stamps[start : start + SIZE])

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def among(self, names: Sequence[str]) -> list[Stamp | None]:
        """Return the stamp of each of many names."""
        places, stamps = map(self.places.get, names), self.stamps
        return [None if place is None else Stamp(stamps[SIZE * place : SIZE * place + SIZE]) for place in places]

    def joined(self, new: "Kept") -> "Kept":
        """Return these and new ones, which stand in for those of the same name."""
        if not self:
            return new
        places, stamps = self.places.copy(), bytearray(self.stamps)
        for name, stamp in new.items():
            start = SIZE * places.setdefault(name, len(places))
            stamps[start : start + SIZE] = stamp
        return Kept(places, bytes(stamps))

    def write(self, path: Path) -> None:
        """Write them with a hash of all, by which damage shows. Raises `UserError`."""
        content = len(self).to_bytes(8, "little") + self.stamps + os.fsencode("\0".join(self.places))
        files.write(path, MAGIC + hashlib.sha1(content).digest() + content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return those in a file; none where it is not there, or is not as it was written."""
        with suppress(OSError, ValueError, MemoryError):
            read = memoryview(files.read_regular(path, MOST_BYTES))
            content = read[len(MAGIC) + SHA1 :]
            if read[: len(MAGIC) + SHA1] == MAGIC + hashlib.sha1(content).digest():
                number, content = int.from_bytes(content[:8], "little"), content[8:]
                names = os.fsdecode(bytes(content[SIZE * number :])).split("\0") if number else []
                return cls({name: place for place, name in enumerate(names)}, bytes(content[: SIZE * number]))
        return cls()
