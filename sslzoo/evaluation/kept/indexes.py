"""Indexes that are kept in a folder: beside each a list of its files with their hashes, checked before faiss reads one.

faiss trusts its files: a flipped bit may end the process or, worse, change what is found.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...metrics.index import PLACE, VERSION, Index
from ...metrics.task import Floats
from ...tools import files
from ...tools.errors import UserError

FORMAT = 2  # of the folder


@dataclass(frozen=True)
class Kept:
    """Holds an index, the seconds that it took to build, 0 where it was found, and why it was built anew, if so."""

    index: Index
    build_seconds: float
    anew: str | None = None


def index_of(bank: Floats, spec: str, folder: Path | None) -> Kept:
    """Return an index of the rows, from the folder where it is there whole. Raises `UserError`.

    What is there and not whole is built anew; nothing else in the folder is touched.
    """
    index = Index(spec, bank.shape[1], len(bank))
    if folder is None:
        return Kept(index, index.build(bank))
    name = name_of(bank, spec.partition(":")[0])  # what is behind the colon is about searching
    about, path, lists = (folder / f"{name}.{suffix}" for suffix in ("json", "faiss", "lists"))
    anew = None
    if os.path.lexists(path) or os.path.lexists(lists):
        anew = why_not_whole(about, folder)
        if anew is None:
            return Kept(Index.load(path, spec, len(bank)), 0.0)
    try:
        build_seconds = build(index, bank, (about, path, lists))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({files.reason(error)}); {PLACE}.") from None
    return Kept(index, build_seconds, anew and f"{path} {anew}; it was built anew.")


def name_of(bank: Floats, factory: str) -> str:
    """Return a name for the index of these rows by this string."""
    digest = hashlib.blake2b(f"{FORMAT} {factory} {bank.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(bank).data)
    return digest.hexdigest()


def build(index: Index, bank: Floats, places: tuple[Path, Path, Path]) -> float:
    """Build and write an index: its lists, itself and the list of both, whole; return the seconds it took to build."""
    about, path, lists = places
    about.unlink(missing_ok=True)
    parts = [files.temporary(place).with_suffix(place.suffix + ".tmp") for place in (path, lists)]
    try:
        seconds = index.build(bank, parts[1])
        written = [path]
        if parts[1].exists():
            index.lists.filename = str(lists)
            os.replace(parts[1], lists)
            written.append(lists)
        index.save(parts[0])
        os.replace(parts[0], path)
        content = {"format": FORMAT, "faiss": VERSION, "files": {one.name: stamp(one) for one in written}}
        files.write(about, json.dumps(content), PLACE)
    except BaseException:
        for place in (*parts, about, path, lists):
            place.unlink(missing_ok=True)
        raise
    return seconds


def stamp(path: Path) -> dict[str, int | str]:
    """Return the length and the hash of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def why_not_whole(about: Path, folder: Path) -> str | None:
    """Return why an index cannot be read, or None where its files are as they were written."""
    try:
        content = json.loads(about.read_bytes())
        listed = content["files"]
        if (content["format"], content["faiss"]) != (FORMAT, VERSION):
            return "is of another version"
        if f"{about.stem}.faiss" not in listed or not all(name.startswith(f"{about.stem}.") for name in listed):
            return "is not listed"
        for name, known in listed.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != known["bytes"] or stamp(path) != known:
                return "is not as it was written"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "has no list of its files that can be read"
    return None
