"""Hashes of files' contents, taken as files are first read, and kept in the cache by path, inode, size and times."""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...processes.launched import readers
from ...tools import files
from ...tools.errors import UserError
from ...tools.places import cache
from ...tools.progress import Work
from ..listed.paths import relative
from .kept import Kept, State, fits

SETTLED = 2_000_000_000  # nanoseconds after a change in which a file system may give another change the same time
NOTHING = hashlib.sha1(b"").hexdigest()  # of a file that cannot be read
MOST_BYTES = 2**31  # of a picture
CHUNK = 256  # files that a thread reads one after another


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


@dataclass
class Hashes:
    """Knows the contents of the files below a folder; all who read a file of it tell what they read.

    ``kept`` are those that the cache had, and those that this process has added to it.
    """

    root: Path | None = None
    stamps: dict[str, Stamp] = field(default_factory=dict, repr=False)  # by path, of what ``kept`` does not have so
    kept: Kept = field(default_factory=Kept, repr=False)
    read: set[str] = field(default_factory=set, repr=False)  # paths of those that this process has read
    new: set[str] = field(default_factory=set, repr=False)  # and that the cache does not have

    def __post_init__(self) -> None:
        """Take up what the cache has."""
        if self.root is not None:
            self.kept = Kept.read(_file(self.root))

    def learn(self, path: Path | str, stamp: Stamp) -> None:
        """Take up what was read of a file."""
        text = str(path)
        self.read.add(text)
        if self._stamp(text) != stamp:
            self.stamps[text] = stamp
            if stamp.changed and fits(stamp[1:]):
                self.new.add(text)

    def _stamp(self, text: str) -> Stamp | None:
        """Return what is known of a file, whether it still holds or not."""
        if (found := self.stamps.get(text)) is None and self.kept:
            (sha1,), (state,) = self.kept.among(relative([text], self.root))
            return None if state is None else Stamp(sha1.hex(), *state)
        return found

    def known(self, path: Path | str) -> str | None:
        """Return a file's hash, as its times say that it still holds; None where nobody has read it so."""
        (found,) = self.known_among([str(path)])
        return None if found is None else found.hex()

    def known_among(self, texts: Sequence[str]) -> list[bytes | None]:
        """Return the hash of each of many files, in bytes, as `known` does."""
        sha1s, states = self.kept.among(relative(texts, self.root) if self.kept else texts)
        found: list[bytes | None] = []
        for text, sha1, state in zip(texts, sha1s, states, strict=True):
            if (stamp := self.stamps.get(text)) is not None:
                found.append(bytes.fromhex(stamp.sha1) if stamp[1:] == _state(text) else None)
            else:
                found.append(sha1 if state is not None and state == _state(text) else None)
        return found

    def seen_among(self, texts: Sequence[str]) -> list[str | None]:
        """Return the hash of each of many files as this process has read it, or as its times say that it still holds.

        It is None of the others.
        """
        unread = [text for text in texts if text not in self.read]
        known = dict(zip(unread, self.known_among(unread), strict=True))
        sha1s, _ = self.kept.among(relative(texts, self.root) if self.kept else texts)
        found: list[str | None] = []
        for text, sha1 in zip(texts, sha1s, strict=True):
            if text in self.read:
                found.append(self.stamps[text].sha1 if text in self.stamps else sha1.hex())
            else:
                holds = known[text]
                found.append(None if holds is None else holds.hex())
        return found

    def of(self, path: Path | str) -> str:
        """Return a file's hash, which is read where it is not known; the hash of nothing where that cannot be."""
        (found,) = self._digests([str(path)])
        return found.hex()

    def digests(self, texts: Sequence[str]) -> list[bytes]:
        """Return the hash of each of many files, in bytes, as `of` does; keep what is read, whatever happens."""
        parts = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        found: list[bytes] = []
        try:
            with Work("contents of files", len(texts)) as work, ThreadPoolExecutor(readers()) as pool:
                for part in pool.map(self._digests, parts):
                    found += part
                    work.add(len(part))
        finally:
            self.save()
        return found

    def _digests(self, texts: Sequence[str]) -> list[bytes]:
        known = self.known_among(texts)
        return [self._read(text) if sha1 is None else sha1 for text, sha1 in zip(texts, known, strict=True)]

    def _read(self, text: str) -> bytes:
        try:
            stamp = Stamp.of(*files.read_with_state(text, MOST_BYTES))
        except OSError:
            return bytes.fromhex(NOTHING)
        self.learn(text, stamp)
        return bytes.fromhex(stamp.sha1)

    def save(self) -> None:
        """Add what is new to what the cache has, if it can be written."""
        if self.root is None or not self.new:
            return
        path, texts = _file(self.root), [*self.new]
        rows = [(bytes.fromhex(stamp.sha1), stamp[1:]) for stamp in map(self.stamps.__getitem__, texts)]
        new = Kept.of(dict(zip(relative(texts, self.root), rows, strict=True)))
        self.new, self.kept = set(), self.kept.joined(new)
        for text in texts:
            del self.stamps[text]
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            Kept.read(path).joined(new).write(path)


def _state(text: str) -> State | None:
    """Return in which state a file is; None where there is none."""
    try:
        found = os.stat(text)
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _file(root: Path) -> Path:
    """Return the cache's file of a folder's hashes."""
    return cache() / "hashes" / f"{hashlib.sha1(os.fsencode(root.resolve())).hexdigest()}.bin"
