"""Where the images of a data set lie: in memory as one tensor, or in files that are read when they are needed."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from .depth import Range
from .picture import Picture, UnreadableImage, square

CHUNK = 4096  # images hashed at a time

ReadImages = tuple[Tensor, list[tuple[int, str]]]  # pixels, and the places and reasons of those that cannot be read


class ImageSource(ABC):
    """Gives images in an order, wherever they lie."""

    @property
    def pixels(self) -> Tensor | None:
        """The pixels of all images, uint8 [N, 3, H, W], where they are in memory."""
        return None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are read for the images; none where they are in memory."""
        return ()

    @property
    def shown(self) -> Range | None:
        """The values that are black and white in files of more than 8 bits; None where nobody says."""
        return None

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the name of each image: its file's, or its place."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, index: Tensor) -> Self:
        """Return the images at these places."""

    @abstractmethod
    def read(self, places: Sequence[int], size: int) -> ReadImages:
        """Return the images at these places as squares, uint8 [M, 3, size, size], and those that cannot be read."""

    @abstractmethod
    def digests(self) -> list[bytes]:
        """Return a hash of each image's content; of a file that cannot be read, the hash of nothing."""

    @abstractmethod
    def fingerprint(self) -> Iterator[bytes]:
        """Yield what tells these images from others, to be hashed."""


@dataclass(frozen=True, eq=False)
class MemoryImages(ImageSource):
    """Holds images of one size, uint8 [N, 3, H, W], with the names of their files where they came from such."""

    tensor: Tensor = field(repr=False)
    files: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def pixels(self) -> Tensor:
        return self.tensor

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self)))) if self.files is None else self.files

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, index: Tensor) -> Self:
        files = None if self.files is None else tuple(self.files[i] for i in index.tolist())
        return type(self)(self.tensor[index], files)

    def read(self, places: Sequence[int], size: int) -> ReadImages:
        return square(self.tensor[torch.as_tensor(places, dtype=torch.long)], size), []

    def digests(self) -> list[bytes]:
        return [hashlib.sha1(image.numpy().tobytes()).digest() for image in self.tensor]

    def fingerprint(self) -> Iterator[bytes]:
        """Yield the shape and all pixels."""
        yield str(tuple(self.tensor.shape)).encode()
        for part in torch.split(self.tensor, CHUNK):
            yield part.cpu().numpy().tobytes()


@dataclass(frozen=True, eq=False)
class FileImages(ImageSource):
    """Reads images in files, of any size; ``shown`` is `Picture`'s."""

    files: tuple[Path, ...] = field(repr=False)
    shown: Range | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.files

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self.files))

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Tensor) -> Self:
        return replace(self, files=tuple(self.files[i] for i in index.tolist()))

    def read(self, places: Sequence[int], size: int) -> ReadImages:
        made, unreadable = [torch.empty(0, 3, size, size, dtype=torch.uint8)], []
        for place in places:
            try:
                made.append(square(Picture(self.files[place], self.shown).pixels()[None], size))
            except UnreadableImage as error:
                unreadable.append((place, error.reason))
        return torch.cat(made), unreadable

    def digests(self) -> list[bytes]:
        return [_digest(path) for path in self.files]

    def fingerprint(self) -> Iterator[bytes]:
        """Yield path, size and time of change of each file, after the range that is shown of all."""
        yield b"" if self.shown is None else f"{self.shown}\n".encode()
        for path in self.files:
            yield os.fsencode(path.resolve())
            with suppress(OSError):  # gone since it was listed
                state = path.stat()
                yield f" {state.st_size} {state.st_mtime_ns}\n".encode()


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha1(path.read_bytes()).digest()
    except OSError:
        return hashlib.sha1(b"").digest()
