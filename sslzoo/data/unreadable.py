"""Images that cannot be read: which and why, listed in a run's directory, and how many are too many."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..tools import files
from ..tools.errors import UserError
from .picture import Picture, Unreadable

NAME = "bad_images.txt"  # in a run's directory
PLAIN = {b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
ESCAPED = {plain: b"\\" + letter for letter, plain in PLAIN.items()}
MOST = 0.01  # of the images, for a run that goes on without them


@dataclass
class Bad:
    """The images of a folder that could not be read so far, with the reason of each; ``of`` is how many it has.

    All splits of a data set share one, and whoever reads an image adds to it.
    """

    folder: Path | None = None
    of: int = 0
    reasons: dict[Path, str] = field(default_factory=dict)
    listed: int = 0  # how many of them are in the run's list
    told: bool = False

    def only(self, paths: Iterable[Path]) -> None:
        """Count among these files alone."""
        left = set(paths)
        self.of, self.reasons = len(left), {path: why for path, why in self.reasons.items() if path in left}

    def said(self) -> str | None:
        """How many there are and the first of them, for a sentence; None where there is none."""
        if not self.reasons:
            return None
        path, why = min(self.reasons.items())
        count = f"{len(self.reasons):,} of {self.of:,} images" if self.of > 1 else "1 image"
        return f"{count} cannot be read, first {path} ({why})"

    def rows(self) -> list[dict[str, str]]:
        """Path and reason of each, as JSON has them."""
        return [{"path": str(path), "reason": why} for path, why in sorted(self.reasons.items())]

    def check(self, most: float, run: Path | None = None) -> None:
        """Raise `UserError` where more than a share of the images cannot be read."""
        if not self.of or len(self.reasons) / self.of <= most:
            return
        place = ""
        if run is not None:
            self.keep(run)
            place = f"; {run / NAME} lists them"
        share = 100 * len(self.reasons) / self.of
        raise UserError(
            f"{self.said()}: {share:.3g}% where --max-bad allows {100 * most:.3g}%{place}; repair or remove what "
            f"'sslzoo data check {self.folder}' shows, or raise --max-bad."
        )

    def all_of(self, paths: Sequence[Path]) -> UserError:
        """The error where none of these files can be read."""
        why = self.reasons.get(paths[0], "nobody knows why")
        if len(paths) == 1:
            return UserError(f"{paths[0]} cannot be read as an image ({why}); repair it or give another.")
        return UserError(
            f"None of {len(paths):,} images can be read, first {paths[0]} ({why}); repair them or give others."
        )

    def recall(self, run: Path) -> None:
        """Look again at what a run listed before it was resumed, and list what there is."""
        self.read(run / NAME)
        self.keep(run)

    def tell(self, run: Path, warn: Callable[[str], None]) -> None:
        """List them in a run's directory, and warn once."""
        self.keep(run)
        if self.reasons and not self.told:
            self.told = True
            warn(f"{self.said()}; they are left out, and {run / NAME} lists them.")

    def keep(self, run: Path) -> None:
        """List them in a run's directory where some are new."""
        if len(self.reasons) != self.listed:
            self.write(run / NAME)
            self.listed = len(self.reasons)

    def write(self, path: Path) -> None:
        """A line for each: path, tab, reason. Raises `UserError`."""
        lines = [_escaped(self.absolute(one)) + b"\t" + why.encode() + b"\n" for one, why in self.reasons.items()]
        files.write(path, b"".join(sorted(lines)))

    def read(self, path: Path) -> None:
        """Take up those of a list that still cannot be read."""
        with suppress(OSError):
            for line in path.read_bytes().splitlines():
                one = self.own(line.split(b"\t")[0])
                try:
                    Picture(one).pixels()
                except Unreadable as error:
                    self.reasons[one] = error.reason

    def absolute(self, path: Path) -> Path:
        """A path that holds from any place, below the folder that the links to it lead to."""
        return path if self.folder is None else self.folder.resolve() / path.relative_to(self.folder)

    def own(self, name: bytes) -> Path:
        """A listed path as the data set spells it."""
        path = Path(os.fsdecode(re.sub(rb"\\([nt\\])", lambda found: PLAIN[found[1]], name)))
        inside = self.folder is not None and path.is_relative_to(self.folder.resolve())
        return self.folder / path.relative_to(self.folder.resolve()) if self.folder and inside else path


def _escaped(path: Path) -> bytes:
    """A path of one line, whatever its letters."""
    return re.sub(rb"[\n\t\\]", lambda found: ESCAPED[found[0]], os.fsencode(path))
