"""Where images lie in a file, kept in the cache: a list is made once for each state of the file."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...tools import files
from ...tools.places import cache
from .index import state_of

VERSION = 1
SETTLED = 2_000_000_000  # nanoseconds after a change in which another may leave the same times
MOST = 2**33  # bytes of a list


@dataclass(frozen=True)
class Places:
    """Holds names of images, spans [N, 2] of bytes, CRC-32 [N] of unpacked ones, and whatever JSON goes with them."""

    names: Sequence[str]
    spans: npt.NDArray[np.int64]
    sums: npt.NDArray[np.uint32] | None = None
    more: Any = None

    def write(self, path: Path, recovery_hint: str) -> None:
        """Write them with a hash of all, by which damage shows. Raises `UserError`."""
        sums = b"" if self.sums is None else self.sums.tobytes()
        content = self.spans.tobytes() + sums + os.fsencode("\0".join(self.names))
        head = {"images": len(self.names), "sums": self.sums is not None, "more": self.more}
        head["sha1"] = hashlib.sha1(json.dumps(head).encode() + content).hexdigest()
        files.write(path, json.dumps(head).encode() + b"\n" + content, recovery_hint)

    @classmethod
    def read(cls, path: Path) -> "Places | None":
        """Return those in a file; None where it is not there, or is not as it was written."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            first, _, content = files.read_regular(path, MOST).partition(b"\n")
            head = json.loads(first)
            sha1 = head.pop("sha1")
            if hashlib.sha1(json.dumps(head).encode() + content).hexdigest() == sha1:
                n, end = head["images"], (20 if head["sums"] else 16) * head["images"]
                spans = np.frombuffer(content, np.int64, 2 * n).reshape(-1, 2)
                sums = np.frombuffer(content, np.uint32, n, 16 * n) if head["sums"] else None
                return cls(os.fsdecode(content[end:]).split("\0") if n else [], spans, sums, head["more"])
        return None


def is_settled(path: Path) -> bool:
    """Return whether a file has not only just changed, so that another change would leave other times."""
    return time.time_ns() - os.stat(path).st_ctime_ns > SETTLED


def place_of(folder: str, holder: str, about: str) -> Path:
    """Return the cache's file for what is kept of a file as it is now; ``about`` says what of it is meant."""
    key = [VERSION, os.path.abspath(holder), state_of(os.stat(holder)), about]
    return cache() / folder / hashlib.sha1(json.dumps(key).encode()).hexdigest()
