"""Images that lie compressed in a file, unpacked once into the cache, where each can be read alone."""

import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...tools import files
from ...tools.errors import UserError
from .index import Index, known
from .lists import Places, place_of

Images = Iterable[tuple[str, bytes]]  # a name and its bytes
HINT = "make room there, or set SSLZOO_CACHE to a folder that has some"


def unpacked(holder: str, about: str, images: Callable[[], Images]) -> Index:
    """Return the index of a file's images, which are unpacked where the cache does not have them as the file is now.

    ``about`` says which images of it are meant. Raises `UserError` where they cannot be written.
    """
    place = place_of("unpacked", holder, about).with_suffix(".images")
    if (found := _kept(holder, place)) is not None:
        return found
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        (lock := place.with_suffix(".lock")).touch()
    except OSError as error:
        raise UserError(f"{place.parent} cannot be written ({error.strerror}); {HINT}.") from None
    with files.locked(lock, wait=True):  # another process may be at it
        if (found := _kept(holder, place)) is None:
            found = _made(holder, place, images)
    lock.unlink(missing_ok=True)
    return found


def _made(holder: str, place: Path, images: Callable[[], Images]) -> Index:
    """Unpack images, and write where they lie when all of them are there."""
    names: list[str] = []
    spans: list[tuple[int, int]] = []
    sums: list[int] = []

    def write(file: BinaryIO) -> None:
        for name, content in images():
            spans.append((file.tell(), len(content)))
            names.append(name)
            sums.append(zlib.crc32(content))
            file.write(content)

    files.write(place, write, HINT)
    table, checks = np.array(spans, np.int64).reshape(-1, 2), np.array(sums, np.uint32)
    Places(names, table, checks).write(place.with_suffix(".list"), HINT)
    return Index.of(holder, str(place), names, table, checks)


def _kept(holder: str, place: Path) -> Index | None:
    """Return the index of what the cache has, if it is whole."""
    own = known(holder)
    if own is not None and own.file == str(place) and place.exists():
        return own
    found = Places.read(place.with_suffix(".list"))
    with suppress(OSError):
        if found is not None and int(found.spans.sum(axis=1).max(initial=0)) <= place.stat().st_size:
            return Index.of(holder, str(place), found.names, found.spans, found.sums)
    return None
