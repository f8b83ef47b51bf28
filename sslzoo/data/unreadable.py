"""Images that cannot be read: which and why, listed in a run's directory, and how many are too many."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..tools import files
from ..tools.errors import UserError
from ..tools.records import Record
from .decoded.bands import opened
from .decoded.ranges import Range
from .picture import UnreadableImage

LIST_NAME = "bad_images.txt"  # in a run's directory
PLAIN = {b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
ESCAPED = {plain: b"\\" + letter for letter, plain in PLAIN.items()}
LONGEST_LIST = 1_000_000_000  # bytes of a list
MAX_SHARE = 0.01  # of the images, for a run that goes on without them


@dataclass(frozen=True)
class UnreadableRow(Record):
    """An image that cannot be read, as JSON has it."""

    path: str
    reason: str


@dataclass
class UnreadableImages:
    """The images of a folder that could not be read so far, with the reason of each; ``total`` counts all its images.

    All splits of a data set share one, and whoever reads an image adds to it.
    """

    folder: Path | None = None
    total: int = 0
    reasons: dict[Path, str] = field(default_factory=dict)
    saved: int = 0  # how many of them are in the run's list
    reported: bool = False
    shown: Range | None = None  # `Picture`'s, of those that are read again
    source: str | None = None  # what a person calls the data, where that is no folder

    def restrict_to(self, texts: Iterable[str]) -> None:
        """Count among the files of these paths alone."""
        left = set(texts)
        self.total, self.reasons = len(left), {path: why for path, why in self.reasons.items() if str(path) in left}

    def summary(self) -> str | None:
        """Return how many there are and the first of them, for a sentence; None where there is none."""
        if not self.reasons:
            return None
        path, why = min(self.reasons.items())
        count = f"{len(self.reasons):,} of {self.total:,} images" if self.total > 1 else "1 image"
        return f"{count} cannot be read, first {path} ({why})"

    def rows(self) -> tuple[UnreadableRow, ...]:
        """Return path and reason of each, in order of the paths."""
        return tuple(UnreadableRow(str(path), why) for path, why in sorted(self.reasons.items()))

    def check_share(self, allowed: float, run: Path | None = None) -> None:
        """Raise `UserError` where more than an allowed share of the images cannot be read; list them in a run first."""
        if not self.total or len(self.reasons) / self.total <= allowed:
            return
        where = ""
        if run is not None:
            self.save(run)
            where = f"; {run / LIST_NAME} lists them"
        share = 100 * len(self.reasons) / self.total
        raise UserError(
            f"{self.summary()}: {share:.3g}% where --max-bad allows {100 * allowed:.3g}%{where}; repair or remove what "
            f"'sslzoo data check {self.source or self.folder}' shows, or raise --max-bad."
        )

    def none_readable(self, paths: Sequence[Path]) -> UserError:
        """Return the error to raise where none of these files can be read."""
        why = self.reasons.get(paths[0], "nobody knows why")
        if len(paths) == 1:
            return UserError(f"{paths[0]} cannot be read as an image ({why}); repair it or give another.")
        return UserError(
            f"None of {len(paths):,} images can be read, first {paths[0]} ({why}); repair them or give others."
        )

    def reload(self, run: Path) -> None:
        """Read again what a run listed before it was resumed, and list what is left."""
        self.read_list(run / LIST_NAME)
        self.save(run)

    def report(self, run: Path, warn: Callable[[str], None]) -> None:
        """List them in a run's directory, and warn once."""
        self.save(run)
        if self.reasons and not self.reported:
            self.reported = True
            warn(f"{self.summary()}; they are left out, and {run / LIST_NAME} lists them.")

    def save(self, run: Path) -> None:
        """List them in a run's directory where some are new."""
        if len(self.reasons) != self.saved:
            self.write_list(run / LIST_NAME)
            self.saved = len(self.reasons)

    def write_list(self, path: Path) -> None:
        """Write a line for each: path, tab, reason. Raises `UserError`."""
        lines = [_escaped(self._resolved(one)) + b"\t" + why.encode() + b"\n" for one, why in self.reasons.items()]
        files.write(path, b"".join(sorted(lines)))

    def read_list(self, path: Path) -> None:
        """Take up those of a list that still cannot be read."""
        with suppress(OSError):
            for line in files.read_regular(path, LONGEST_LIST).splitlines():
                one = self._as_listed_here(line.split(b"\t")[0])
                if self.folder is not None and not (one.is_relative_to(self.folder) and ".." not in one.parts):
                    continue  # none of the data's
                try:
                    opened(one, self.shown).pixels()
                except UnreadableImage as error:
                    self.reasons[one] = error.reason
                except UserError:  # the machine's, or its folder is gone: whoever needs it will say so
                    continue

    def _resolved(self, path: Path) -> Path:
        """Return a path that holds from any place, below the folder that the links to it lead to."""
        return path if self.folder is None else self.folder.resolve() / path.relative_to(self.folder)

    def _as_listed_here(self, name: bytes) -> Path:
        """Return a path of a list as the data set spells it."""
        path = Path(os.fsdecode(re.sub(rb"\\([nt\\])", lambda found: PLAIN[found[1]], name)))
        inside = self.folder is not None and path.is_relative_to(self.folder.resolve())
        return self.folder / path.relative_to(self.folder.resolve()) if self.folder and inside else path


def _escaped(path: Path) -> bytes:
    """Return a path as one line, whatever its letters."""
    return re.sub(rb"[\n\t\\]", lambda found: ESCAPED[found[0]], os.fsencode(path))
