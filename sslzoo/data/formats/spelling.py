"""How data in files are written: a file, a pattern of several, and which of their columns are meant."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...tools.errors import UserError, did_you_mean, listing
from ..home import natural

ROLES = ("image", "label")
COLUMNS = re.compile(r"^(.+?):((?:[a-z_]+=[^,=]+)(?:,[a-z_]+=[^,=]+)*)$", re.DOTALL)
BRACES = re.compile(r"\{([^{}]*)\}")
SCHEME = re.compile(r"[a-z]{2,}:")  # before the name of a set that some library has
NUMBERS = re.compile(r"(\d+)\.\.(\d+)")
MOST = 1_000_000  # files of a pattern


@dataclass(frozen=True)
class Spelled:
    """Holds the parts of what a person calls data: ``text`` with the columns cut off, and these by their role."""

    given: str
    text: str
    image: str | None = None
    label: str | None = None

    @classmethod
    def of(cls, given: str) -> "Spelled":
        """Return the parts of ``PATH:label=COLUMN,image=COLUMN``, of which a path that is there has none.

        Raises `UserError`.
        """
        text = os.path.expanduser(given)
        cut = None if os.path.exists(text) else COLUMNS.match(text)
        if cut is None:
            return cls(given, text)
        pairs = [part.split("=", 1) for part in cut[2].split(",")]
        for role, _ in pairs:
            if role not in ROLES:
                raise UserError(
                    f"{given} names a column for {role!r}{did_you_mean(role, ROLES)}; what it can be is "
                    f"{listing(ROLES)}, as in {cut[1]}:label=COLUMN."
                )
        return cls(given, cut[1], **dict(pairs))

    @property
    def pattern(self) -> bool:
        """Whether it stands for several files: there is none of that very name."""
        return not os.path.exists(self.text) and bool(re.search(r"[{*?\[]", self.text))

    def files(self) -> list[Path]:
        """Return the files of a path or a pattern: as braces have them, those of a star in natural order.

        Raises `UserError` for what is not there.
        """
        if not self.pattern:
            return [Path(self.text)]
        found: list[Path] = []
        for text in expanded(self.text):
            matches = sorted(glob.glob(text, recursive=True), key=natural) if glob.has_magic(text) else [text]
            if not matches:
                raise UserError(f"No file is called {text}; give files that are there.")
            found += map(Path, matches)
        missing = [path for path in found if not path.exists()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"There is no file {missing[0]}{more}, of {self.text}; give files that are there.")
        if len({*found}) < len(found):
            raise UserError(f"{self.text} names a file twice; name each once.")
        return found

    def hint(self, role: str) -> str:
        """Return how a column is named for a role."""
        return f"{self.text}:{role}=NAME"


def from_anywhere(given: str) -> str:
    """Return what a person calls data as it holds from any folder: its path, where it has one."""
    text = os.path.expanduser(given)
    if os.path.exists(text):
        return str(Path(text).resolve())
    if SCHEME.match(given) or not (COLUMNS.match(text) or Spelled.of(given).pattern):
        return given
    return os.path.abspath(text)


def is_gone(given: str) -> bool:
    """Return whether data that have a path from the root are there no longer; of a pattern nobody says so."""
    spelled = Spelled.of(given)
    return os.path.isabs(spelled.text) and not os.path.exists(spelled.text) and not spelled.pattern


def expanded(pattern: str) -> list[str]:
    """Return the texts that braces stand for, as a shell has them: ``{a,b}`` and ``{000..009}``. Raises `UserError`."""
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    made: list[str] = []
    for part in _parts(found[1], pattern):
        made += expanded(pattern[: found.start()] + part + pattern[found.end() :])
        if len(made) > MOST:
            raise UserError(f"{pattern[:100]} names more than {MOST:,} files; give a folder.")
    return made


def _parts(inside: str, pattern: str) -> Sequence[str]:
    if (ends := NUMBERS.fullmatch(inside)) is None:
        return inside.split(",")
    first, last = int(ends[1]), int(ends[2])
    if not 0 <= last - first < MOST:
        raise UserError(f"{pattern[:100]} counts from {ends[1]} to {ends[2]}; count up, to fewer than {MOST:,} files.")
    width = max(map(len, ends.groups())) if "0" in (ends[1][0], ends[2][0]) and len(ends[1]) > 1 else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]
