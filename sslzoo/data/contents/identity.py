"""What tells a data set from another: the names, labels and contents of its images, wherever they lie."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...tools.records import Record
from ..images import FileImages
from ..listed.paths import relative, texts_of
from ..splits import Dataset, Split


@dataclass(frozen=True)
class SplitIdentity(Record):
    """Tells a split from another: the number of its images, and hashes in their order.

    ``names`` is of the paths below the data set's folder, None of arrays; ``labels`` is None without any, and
    ``contents`` of files that are not read for it.
    """

    images: int
    names: str | None
    labels: str | None
    contents: str | None

    @classmethod
    def of(cls, split: Split, read: bool) -> "SplitIdentity":
        """Return that of a split; with ``read`` files are read whose contents are not known."""
        labels, images, names = split.labels, split.images, None
        if isinstance(images, FileImages):
            names = _hash([os.fsencode("".join(name + "\0" for name in relative_names(images)))])
        told = None if labels is None else _hash([str(tuple(labels.shape)).encode(), labels.numpy().tobytes()])
        contents = _hash(images.fingerprint()) if read or names is None else None
        return cls(len(split), names, told, contents)

    def difference(self, other: "SplitIdentity") -> str | None:
        """Say in what another split differs; None where it does not, as far as it is known."""
        if self.images != other.images:
            return f"has {other.images} images in place of {self.images}"
        if self.names != other.names:
            return "has files of other names"
        if self.labels != other.labels:
            return "has other labels"
        if None not in (self.contents, other.contents) and self.contents != other.contents:
            return "has images of other content, or in another order"
        return None


@dataclass(frozen=True)
class Identity(Record):
    """Tells a data set from another by its splits; ``bank`` is None where it is the training split.

    ``name`` is that of a set which is known by it; a person's own is known by its content wherever it lies.
    """

    name: str | None
    size: int
    train: SplitIdentity
    bank: SplitIdentity | None = None
    val: SplitIdentity | None = None
    test: SplitIdentity | None = None

    @classmethod
    def of(cls, data: Dataset, read: bool = False) -> "Identity":
        """Return that of a data set; with ``read`` files are read whose contents are not known."""
        own = {name: SplitIdentity.of(split, read) for name, split in data.splits.items()}
        bank = None if data.bank is data.train else SplitIdentity.of(data.bank, read)
        return cls(None if data.own else data.name, data.size, own["train"], bank, own.get("val"), own.get("test"))

    def difference(self, other: "Identity") -> str | None:
        """Say in what another data set differs; None where it does not, as far as it is known."""
        if self.name != other.name:
            return f"it is {other.name or 'a folder or file'} in place of {self.name or 'a folder or file'}"
        if self.size != other.size:
            return f"it is seen at {other.size} px in place of {self.size}"
        for word, mine, others in (
            ("training split", self.train, other.train), ("labelled part", self.bank, other.bank),
            ("validation split", self.val, other.val), ("test split", self.test, other.test),
        ):  # fmt: skip
            if (mine is None) != (others is None):
                return f"it has {'a' if mine is None else 'no'} {word}"
            if mine is not None and others is not None and (found := mine.difference(others)) is not None:
                return f"its {word} {found}"
        return None

    def digest(self) -> str:
        """Return a hash of all of it."""
        return _hash([json.dumps(self.to_json(), sort_keys=True).encode()])


def relative_names(images: FileImages) -> list[str]:
    """Return the files' paths below the data set's folder."""
    return relative(texts_of(images.files), images.hashes.root)


def contents(data: Dataset) -> dict[str, str]:
    """Return the hashes of a data set's files that were read, by their paths below its folder."""
    found: dict[str, str] = {}
    for images in _files(data):
        hashes = images.hashes.seen_among(texts_of(images.files))
        found |= {name: sha1 for name, sha1 in zip(relative_names(images), hashes, strict=True) if sha1 is not None}
    return found


def count_read(data: Dataset) -> int:
    """Return how many files of a data set this process has read so far."""
    return max((len(images.hashes.read) for images in _files(data)), default=0)


def save(data: Dataset) -> None:
    """Keep in the cache what was read of a data set's files."""
    for images in _files(data):
        images.hashes.save()


def changed(data: Dataset, kept: Mapping[str, str]) -> list[str]:
    """Return the files of a data set whose content is not that of ``kept``, by their paths below its folder.

    Files are read where they are not known by their times.
    """
    found: set[str] = set()
    for images in _files(data):
        texts = texts_of(images.files)
        asked = [(name, text) for name, text in zip(relative_names(images), texts, strict=True) if name in kept]
        now = images.hashes.digests([text for _, text in asked])
        found |= {name for (name, _), sha1 in zip(asked, now, strict=True) if sha1.hex() != kept[name]}
    return sorted(found)


def named(changes: Sequence[str]) -> str:
    """Say how many files have another content, and the first of them."""
    return f"{len(changes)} {'images have' if len(changes) > 1 else 'image has'} other content, first {changes[0]}"


def _files(data: Dataset) -> Iterator[FileImages]:
    """Yield the images of files of each split."""
    for split in data.splits.values():
        if isinstance(split.images, FileImages):
            yield split.images


def _hash(parts: Iterator[bytes] | Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
