"""Which image a person means by a name: a path from here, from the data, from the table, or a bare name."""

import os
import unicodedata
from collections.abc import Iterator, Sequence

from ...tools.errors import UserError
from ..listed.paths import prefix

SEVERAL = -2  # images that have one bare name


def normal(path: str) -> str:
    """Return a path with its letters composed, as all systems but one write them, and without detours."""
    composed = unicodedata.normalize("NFC", path)
    return os.path.normpath(composed) if "/." in composed or "//" in composed or composed.startswith(".") else composed


class Names:
    """Finds images by what a table calls them.

    A name is a path below one of the ``bases``, which are folders, or a whole path. A bare name, with or without its
    suffix, is found anywhere in the data, where one image has it.
    """

    def __init__(self, texts: Sequence[str], bases: Sequence[str]):
        self.texts = texts
        self.starts = [*dict.fromkeys(prefix(normal(os.path.abspath(base))) for base in bases)]
        here = prefix(os.getcwd())
        whole = (text if os.path.isabs(text) else os.path.normpath(here + text) for text in texts)
        self.places = {normal(text): place for place, text in enumerate(whole)}
        self._bare: dict[str, int] | None = None

    @property
    def bare(self) -> dict[str, int]:
        """The places of images by their bare names, with suffixes and without; `SEVERAL` where many have one."""
        if self._bare is None:
            self._bare = {}
            for text, place in self.places.items():
                name = os.path.basename(text)
                for one in {name, os.path.splitext(name)[0]}:
                    self._bare[one] = place if self._bare.get(one, place) == place else SEVERAL
        return self._bare

    def find(self, name: str) -> int | None:
        """Return the place of the image of a name; None where there is none. Raises `UserError` for several."""
        if not name:
            return None
        found = {*self._candidates(name)}
        if not found and "\\" in name:
            found = {*self._candidates(name := name.replace("\\", "/"))}
        if not found and "/" not in name and (place := self.bare.get(normal(name))) is not None:
            if place == SEVERAL:
                raise UserError(f"{name} is the name of several images; give their paths below the data's folder")
            return place
        if len(found) > 1:
            first, second, *_ = sorted(self.texts[place] for place in found)
            raise UserError(f"{name} may be {first} or {second}; give whole paths")
        return found.pop() if found else None

    def _candidates(self, name: str) -> Iterator[int]:
        """Yield the places of the images that a path may lead to."""
        for start in ("",) if os.path.isabs(name) else self.starts:
            if (place := self.places.get(normal(start + name))) is not None:
                yield place
