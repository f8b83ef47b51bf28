"""The hashes of a folder's files as the cache has them: columns, so that those of a million files are there at once."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from ...tools import files

MAGIC = b"sslzoo hashes 1\n"
MOST_BYTES = 2**33  # of a file of hashes
STATE = np.dtype([("inode", "<u8"), ("size", "<i8"), ("modified", "<i8"), ("changed", "<i8")])
SHA1 = np.dtype("V20")
Column = npt.NDArray[np.void]


State = tuple[int, ...]  # inode, size in bytes and both times in ns of a file


def fits(state: State) -> bool:
    """Return whether columns can hold the state of a file, whose clock may be anything."""
    return 0 <= state[0] < 2**64 and all(-(2**63) <= number < 2**63 for number in state[1:])


@dataclass(frozen=True, eq=False)
class Kept(Mapping[str, tuple[bytes, State]]):
    """Maps names of files to the hash of each (SHA-1, 20 bytes), and the state in which it was read."""

    places: dict[str, int] = field(default_factory=dict, repr=False)
    sha1s: Column = field(default_factory=lambda: np.empty(0, SHA1), repr=False)
    states: Column = field(default_factory=lambda: np.empty(0, STATE), repr=False)

    @classmethod
    def of(cls, rows: Mapping[str, tuple[bytes, State]]) -> Self:
        """Return columns of some rows."""
        sha1s = np.frombuffer(b"".join(sha1 for sha1, _ in rows.values()), SHA1)
        states = np.array([state for _, state in rows.values()], STATE)
        return cls({name: place for place, name in enumerate(rows)}, sha1s, states)

    def __getitem__(self, name: str) -> tuple[bytes, State]:
        place = self.places[name]
        return self.sha1s[place].tobytes(), self.states[place].item()

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def among(self, names: Sequence[str]) -> tuple[list[bytes], list[State | None]]:
        """Return hash and state of each of many names, faster than one by one; the state of a name without is None."""
        if not self.places:
            return [b""] * len(names), [None] * len(names)
        places = [self.places.get(name, -1) for name in names]
        states = self.states[places].tolist()
        found = [state if place >= 0 else None for place, state in zip(places, states, strict=True)]
        return self.sha1s[places].tolist(), found

    def joined(self, new: "Kept") -> "Kept":
        """Return these and new ones, which stand in for those of the same name."""
        if not self:
            return new
        added = [name for name in new if name not in self.places]
        places = self.places | {name: len(self) + i for i, name in enumerate(added)}
        rows = [places[name] for name in new]
        sha1s = np.concatenate([self.sha1s, np.empty(len(added), SHA1)])
        states = np.concatenate([self.states, np.empty(len(added), STATE)])
        sha1s[rows], states[rows] = new.sha1s, new.states
        return Kept(places, sha1s, states)

    def write(self, path: Path) -> None:
        """Write them with a hash of all, by which damage shows. Raises `UserError`."""
        names = os.fsencode("\0".join(self.places))
        content = len(self).to_bytes(8, "little") + self.sha1s.tobytes() + self.states.tobytes() + names
        files.write(path, MAGIC + hashlib.sha1(content).digest() + content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return those in a file; none where it is not there, or is not as it was written."""
        with suppress(OSError, ValueError, MemoryError):
            read = memoryview(files.read_regular(path, MOST_BYTES))
            content = read[len(MAGIC) + SHA1.itemsize :]
            if read[: len(read) - len(content)] == MAGIC + hashlib.sha1(content).digest():
                number, content = int.from_bytes(content[:8], "little"), content[8:]
                middle, end = SHA1.itemsize * number, (SHA1.itemsize + STATE.itemsize) * number
                names = os.fsdecode(bytes(content[end:])).split("\0") if number else []
                places = {name: place for place, name in enumerate(names)}
                return cls(places, np.frombuffer(content[:middle], SHA1), np.frombuffer(content[middle:end], STATE))
        return cls()
