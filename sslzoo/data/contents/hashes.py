"""Hashes of files' contents, taken as files are first read, and kept in the cache by path, inode, size and times."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...tools import files
from ...tools.errors import UserError
from ...tools.places import cache

SETTLED = 2_000_000_000  # nanoseconds after a change in which a file system may give another change the same time
NOTHING = hashlib.sha1(b"").hexdigest()  # of a file that cannot be read
MOST_BYTES = 2**31  # of a picture, and of a file of hashes


class Stamp(NamedTuple):
    """Holds the hash of a file's content (SHA-1, hexadecimal), with its inode, its size in bytes and its times in ns.

    ``changed`` is that of its inode, which nobody sets back as ``modified`` can be. Both are 0 of a file that had only
    just changed when it was read, since another change might leave the same times: such a stamp holds for no state.
    The inode tells apart what was written in one tick of the clock, as when two folders of an archive swap names.
    """

    sha1: str
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, content: bytes, state: os.stat_result) -> "Stamp":
        """Return the stamp of a content that was read from a file in this state."""
        times = (state.st_mtime_ns, state.st_ctime_ns)
        settled = time.time_ns() - max(times) > SETTLED
        return cls(hashlib.sha1(content).hexdigest(), state.st_ino, state.st_size, *(times if settled else (0, 0)))

    def holds_for(self, state: os.stat_result) -> bool:
        """Return whether a file in this state has this content."""
        return self[1:] == (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@dataclass
class Hashes:
    """Knows the contents of the files below a folder; all who read a file of it tell what they read."""

    root: Path | None = None
    stamps: dict[str, Stamp] = field(default_factory=dict, repr=False)
    read: set[str] = field(default_factory=set, repr=False)  # paths of those that this process has read
    new: set[str] = field(default_factory=set, repr=False)  # and that the cache does not have

    def __post_init__(self) -> None:
        """Take up what the cache has."""
        if self.root is not None:
            self.stamps = {os.path.join(self.root, name): stamp for name, stamp in _read(_file(self.root)).items()}

    def learn(self, path: Path, stamp: Stamp) -> None:
        """Take up what was read of a file."""
        self.read.add(str(path))
        if self.stamps.get(str(path)) != stamp:
            self.stamps[str(path)] = stamp
            if stamp.changed:
                self.new.add(str(path))

    def known(self, path: Path) -> str | None:
        """Return a file's hash, as its times say that it still holds; None where nobody has read it so."""
        stamp = self.stamps.get(str(path))
        with suppress(OSError, ValueError):
            if stamp is not None and stamp.holds_for(os.stat(path)):
                return stamp.sha1
        return None

    def seen(self, path: Path) -> str | None:
        """Return a file's hash as this process has read it, or as its times say that it still holds; else None."""
        return self.stamps[str(path)].sha1 if str(path) in self.read else self.known(path)

    def of(self, path: Path) -> str:
        """Return a file's hash, which is read where it is not known; the hash of nothing where that cannot be."""
        if (known := self.known(path)) is not None:
            return known
        try:
            stamp = Stamp.of(*files.read_with_state(path, MOST_BYTES))
        except OSError:
            return NOTHING
        self.learn(path, stamp)
        return stamp.sha1

    def save(self) -> None:
        """Add what is new to what the cache has, if it can be written."""
        if self.root is None or not self.new:
            return
        path, new = _file(self.root), {os.path.relpath(one, self.root): self.stamps[one] for one in self.new}
        self.new = set()
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, _text(_read(path) | new))


def _file(root: Path) -> Path:
    """Return the cache's file of a folder's hashes."""
    return cache() / "hashes" / f"{hashlib.sha1(os.fsencode(root.resolve())).hexdigest()}.json"


def _text(stamps: Mapping[str, Stamp]) -> str:
    """Return what the cache keeps, with a hash of it, by which damage shows."""
    content = json.dumps(stamps)
    return json.dumps({"sha1": hashlib.sha1(content.encode()).hexdigest(), "files": content})


def _read(path: Path) -> dict[str, Stamp]:
    """Return what the cache keeps of a folder; nothing where it has none, or is not as it was written."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = json.loads(files.read_regular(path, MOST_BYTES))
        if hashlib.sha1(kept["files"].encode()).hexdigest() == kept["sha1"]:
            return {name: Stamp(*stamp) for name, stamp in json.loads(kept["files"]).items()}
    return {}
