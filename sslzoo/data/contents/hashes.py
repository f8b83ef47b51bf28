"""Hashes of files' contents, taken as files are first read, and kept in the cache by path, inode, size and times."""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...processes.launched import readers
from ...tools.errors import UserError
from ...tools.places import cache
from ...tools.progress import Work
from ..listed.paths import relative
from ..packed import index
from .kept import NO_STATE, SHA1, Kept, Stamp, holds, state_of

SETTLED = 2_000_000_000  # nanoseconds after a change in which a file system may give another change the same time
NOTHING = hashlib.sha1(b"").hexdigest()  # of a file that cannot be read
MOST_BYTES = 2**31  # of a picture
CHUNK = 256  # files that a thread reads one after another


def stamp_of(content: bytes, state: os.stat_result) -> Stamp:
    """Return the stamp of a content that was read from a file in this state.

    It holds for no state where the file had only just changed, since another change might leave the same times.
    """
    settled = time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED
    return Stamp(hashlib.sha1(content).digest() + (state_of(state) if settled else NO_STATE))


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
        known = self.stamps.get(text)
        if known is None and self.kept:
            (known,) = self.kept.among(relative([text], self.root))
        if known != stamp:
            self.stamps[text] = stamp
            if not stamp.endswith(NO_STATE):
                self.new.add(text)

    def known(self, path: Path | str) -> str | None:
        """Return a file's hash, as its times say that it still holds; None where nobody has read it so."""
        (found,) = self.known_among([str(path)])
        return None if found is None else found.hex()

    def known_among(self, texts: Sequence[str]) -> list[bytes | None]:
        """Return the hash of each of many files, in bytes, as `known` does."""
        stamps = zip(texts, self._stamps(texts), strict=True)
        return [None if stamp is None or not holds(stamp, text) else stamp[:SHA1] for text, stamp in stamps]

    def _stamps(self, texts: Sequence[str]) -> Sequence[Stamp | None]:
        """Return what is known of each of many files, whether it still holds or not."""
        found = self.kept.among(relative(texts, self.root)) if self.kept else [None] * len(texts)
        if not self.stamps:
            return found
        return [self.stamps.get(text, kept) for text, kept in zip(texts, found, strict=True)]

    def seen_among(self, texts: Sequence[str]) -> list[str | None]:
        """Return the hash of each of many files as this process has read it, or as its times say that it still holds.

        It is None of the others.
        """
        stamps = zip(texts, self._stamps(texts), strict=True)
        return [
            None if stamp is None or not (text in self.read or holds(stamp, text)) else stamp[:SHA1].hex()
            for text, stamp in stamps
        ]

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
            stamp = stamp_of(*index.read_with_state(text, MOST_BYTES))
        except OSError:
            return bytes.fromhex(NOTHING)
        self.learn(text, stamp)
        return stamp[:SHA1]

    def save(self) -> None:
        """Add what is new to what the cache has, if it can be written."""
        if self.root is None or not self.new:
            return
        path, texts = _file(self.root), [text for text in self.stamps if text in self.new]  # as they were read
        stamps = [self.stamps[text] for text in texts]
        new = Kept.of(dict(zip(relative(texts, self.root), stamps, strict=True)))
        self.new, self.kept = set(), self.kept.joined(new)
        for text in texts:
            del self.stamps[text]
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            Kept.read(path).joined(new).write(path)


def _file(root: Path) -> Path:
    """Return the cache's file of a folder's hashes."""
    return cache() / "hashes" / f"{hashlib.sha1(os.fsencode(root.resolve())).hexdigest()}.stamps"
