"""Where the images of a data set lie: in memory as one tensor, or in files that are read when they are needed."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

from .contents import copies
from .contents.copies import Held
from .contents.hashes import Hashes
from .contents.kept import Stamp
from .decoded.bands import opened
from .decoded.crops import Crop, stacked
from .decoded.ranges import Range
from .listed.paths import taken, texts_of
from .packed.index import Index
from .picture import UnreadableImage, square

CHUNK = 4096  # images hashed at a time


class ReadImages(NamedTuple):
    """Holds images, uint8 [M, 3, size, size], the places and reasons of the unreadable, and the stamps of files."""

    pixels: Tensor
    unreadable: list[tuple[int, str]] = []  # noqa: RUF012
    seen: list[tuple[int, Stamp]] = []  # noqa: RUF012


class Opened(Protocol):
    """An image whose size is known, in px, and whose pixels can be had; ``stamp`` is its file's, if one was read."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def stamp(self) -> Stamp | None: ...

    def copy(self) -> Tensor:
        """Return uint8 [3, H, W], fine enough for views that are cut out of it. Raises `UnreadableImage`."""


class OpenedFile:
    """A picture whose header is read, and of which a copy is made when it is asked for, and perhaps kept."""

    def __init__(self, path: Path, size: int, shown: Range | None, keep: bool):
        self.picture, self.size, self.keep = opened(path, shown), size, keep
        self.height, self.width = self.picture.height, self.picture.width

    @cached_property
    def stamp(self) -> Stamp:
        """The file's, for which all of it is hashed."""
        return self.picture.stamp

    def copy(self) -> Tensor:
        """Return uint8 [3, H, W], fine enough for views of the size. Raises `UnreadableImage`."""
        pixels, picture = self.picture.copy(self.size), self.picture
        if self.keep and copies.is_worth_keeping(self.height, self.width, pixels):
            copies.keep(picture.path, self.size, picture.shown, Held(self.height, self.width, pixels, self.stamp))
        return pixels


@dataclass(frozen=True, eq=False)
class Packed:
    """Holds images of any sizes in one tensor, so that processes share it: ``flat``, with the place of each.

    The channels of a pixel lie side by side, which is how images are resized fastest.

    ``shapes`` [N, 2] are their heights and widths here, and ``sizes`` [N, 2] those of their files; 0 of one that cannot
    be read.
    """

    flat: Tensor = field(repr=False)
    starts: Tensor = field(repr=False)
    shapes: Tensor = field(repr=False)
    sizes: Tensor = field(repr=False)
    channels: int = 3

    @classmethod
    def of(cls, images: Sequence[Held | None]) -> Self:
        """Pack images, of which None cannot be read."""
        shapes = torch.tensor([(0, 0) if one is None else one.pixels.shape[1:] for one in images])
        channels = next((len(one.pixels) for one in images if one is not None), 3)
        sizes = torch.tensor([(0, 0) if one is None else (one.height, one.width) for one in images])
        ends = (channels * shapes.prod(dim=1)).cumsum(0)
        flat = torch.empty(int(ends[-1]), dtype=torch.uint8)
        for one, end in zip(images, ends.tolist(), strict=True):
            if one is not None:
                by_pixel = one.pixels.permute(1, 2, 0)
                flat[end - by_pixel.numel() : end].view(by_pixel.shape).copy_(by_pixel)
        return cls(flat, ends - channels * shapes.prod(dim=1), shapes, sizes, channels)

    def take(self, index: Tensor) -> Self:
        """Return those at these places, without a copy of their pixels."""
        return replace(self, starts=self.starts[index], shapes=self.shapes[index], sizes=self.sizes[index])

    def open(self, place: int) -> Held:
        """Return an image. Raises `UnreadableImage`."""
        (height, width), start = self.shapes[place].tolist(), int(self.starts[place])
        if not height:
            raise UnreadableImage("It cannot be read.", "it could not be read")
        end = start + self.channels * height * width
        pixels = self.flat[start:end].view(height, width, self.channels).permute(2, 0, 1)
        full_height, full_width = self.sizes[place].tolist()
        return Held(full_height, full_width, pixels)


class ImageSource(ABC):
    """Gives images in an order, wherever they lie."""

    @property
    def pixels(self) -> Tensor | None:
        """The pixels of all images, uint8 [N, 3, H, W], where they are in memory."""
        return None

    @property
    def paths(self) -> Sequence[Path]:
        """The files that the images come from; none of arrays."""
        return ()

    @property
    @abstractmethod
    def channels(self) -> int:
        """The number of channels of each image."""

    def in_memory(self, size: int) -> bool:
        """Return whether images of a size need not be read from files."""
        return not self.paths or (self.pixels is not None and self.pixels.shape[-1] == size)

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
    def cut(self, places: Sequence[int], crop: Crop) -> ReadImages:
        """Return the images at these places, cut by Pillow, and those that cannot be read."""

    @abstractmethod
    def open(self, place: int, size: int) -> Opened:
        """Return an image, for views of a size in px. Raises `UnreadableImage`."""

    @abstractmethod
    def digests(self) -> list[bytes]:
        """Return a hash of each image's content; of a file that cannot be read, the hash of nothing."""

    @abstractmethod
    def learn(self, seen: Sequence[tuple[int, Stamp]]) -> None:
        """Take up what was read of files at some places."""

    def hashed(self) -> bool:
        """Return whether `digests` and `fingerprint` need to read nothing."""
        return True

    @abstractmethod
    def fingerprint(self) -> Iterator[bytes]:
        """Yield what tells these images from others, to be hashed."""


@dataclass(frozen=True, eq=False)
class MemoryImages(ImageSource):
    """Holds images of one size that came as an array, uint8 [N, 3, H, W]."""

    tensor: Tensor = field(repr=False)

    @property
    def pixels(self) -> Tensor:
        return self.tensor

    @property
    def channels(self) -> int:
        return self.tensor.shape[1]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(str, range(len(self))))

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, index: Tensor) -> Self:
        return type(self)(self.tensor[index])

    def read(self, places: Sequence[int], size: int) -> ReadImages:
        return ReadImages(square(self.tensor[torch.as_tensor(places, dtype=torch.long)], size))

    def cut(self, places: Sequence[int], crop: Crop) -> ReadImages:
        return ReadImages(stacked([crop.apply(self.tensor[place]) for place in places], self.channels, crop.size))

    def open(self, place: int, size: int) -> Held:
        return Held(self.tensor.shape[-2], self.tensor.shape[-1], self.tensor[place])

    def learn(self, seen: Sequence[tuple[int, Stamp]]) -> None:
        """Take up nothing: there are no files."""

    def digests(self) -> list[bytes]:
        return [hashlib.sha1(image.numpy().tobytes()).digest() for image in self.tensor]

    def fingerprint(self) -> Iterator[bytes]:
        """Yield the shape and all pixels."""
        yield str(tuple(self.tensor.shape)).encode()
        for part in torch.split(self.tensor, CHUNK):
            yield part.cpu().numpy().tobytes()


@dataclass(frozen=True, eq=False)
class FileImages(ImageSource):
    """Reads images in files, of any size; ``shown`` is `Picture`'s.

    Where they are in memory too, ``squares`` has them as `read` makes them at one size, and ``whole`` as `open` does;
    those that cannot be read are black.
    """

    files: Sequence[Path] = field(repr=False)
    hashes: Hashes = field(default_factory=Hashes, repr=False)
    shown: Range | None = None
    squares: Tensor | None = field(default=None, repr=False)
    whole: Packed | None = field(default=None, repr=False)
    packed: tuple[Index, ...] = field(default=(), repr=False)  # of files that hold images, for processes that read

    @property
    def pixels(self) -> Tensor | None:
        return self.squares

    @property
    def paths(self) -> Sequence[Path]:
        return self.files

    @property
    def channels(self) -> int:
        return 3 if self.shown is None else self.shown.channels

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(texts_of(self.files))

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Tensor) -> Self:
        files = taken(self.files, index.tolist())
        squares = None if self.squares is None else self.squares[index]
        return replace(self, files=files, squares=squares, whole=self.whole and self.whole.take(index))

    def read(self, places: Sequence[int], size: int) -> ReadImages:
        if self.squares is not None and self.squares.shape[-1] == size:
            return ReadImages(self.squares[torch.as_tensor(places, dtype=torch.long)])
        return self._squares(places, size)

    def cut(self, places: Sequence[int], crop: Crop) -> ReadImages:
        return self._squares(places, crop.size, crop)

    def _squares(self, places: Sequence[int], size: int, crop: Crop | None = None) -> ReadImages:
        made, unreadable, seen = [], [], []
        for place in places:
            try:
                image: Opened
                if crop is None:
                    image = self.opened(self.files[place], size, keep=False)  # it may never be read again
                    made.append(square(image.copy()[None], size)[0])
                else:  # of all pixels, and not of a copy
                    image = file = OpenedFile(self.files[place], size, self.shown, keep=False)
                    made.append(crop.apply(file.picture.pixels()))
                if self.hashes.known(self.files[place]) is None and image.stamp is not None:
                    seen.append((place, image.stamp))
            except UnreadableImage as error:
                unreadable.append((place, error.reason))
        return ReadImages(stacked(made, self.channels, size), unreadable, seen)

    def open(self, place: int, size: int) -> Opened:
        return self.opened(self.files[place], size) if self.whole is None else self.whole.open(place)

    def opened(self, path: Path, size: int, keep: bool = True) -> Opened:
        """Return what is in a file, or in a copy that was kept, for views of a size in px. Raises `UnreadableImage`."""
        return copies.find(path, size, self.shown) or OpenedFile(path, size, self.shown, keep)

    def learn(self, seen: Sequence[tuple[int, Stamp]]) -> None:
        """Take up what was read of files at some places."""
        for place, stamp in seen:
            self.hashes.learn(self.files[place], stamp)

    def digests(self) -> list[bytes]:
        return self.hashes.digests(texts_of(self.files))

    def hashed(self) -> bool:
        return None not in self.hashes.known_among(texts_of(self.files))

    def fingerprint(self) -> Iterator[bytes]:
        """Yield the range that is shown, and the hash of each file's content."""
        yield b"" if self.shown is None else f"{self.shown}\n".encode()
        yield from self.digests()
