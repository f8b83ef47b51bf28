"""What is decided about many pictures from a look at some: their usual size, what is black and white in them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..tools.errors import UserError
from .decoded.bands import opened
from .decoded.ranges import MOST_CHANNELS, Bands, Range, number
from .depth import Depth, Extent
from .picture import Picture, UnreadableImage

SAMPLED = 500  # files that are looked at
COARSE = 8  # a JPEG is decoded no finer than so many times smaller where its colours are asked for
FLAT = 2  # the deviation of a channel's values, of 255, up to which a picture is nearly one colour
CHUNK = 64  # images in memory whose colours are compared at a time
NAMED = 3  # of them in a note
MANY = 0.5  # of the pictures that are nearly one colour: something is wrong with all


@dataclass
class Sample:
    """Holds what pictures of a sample showed.

    ``sizes`` are width and height of those that can be read; ``extents`` are the values of those of more than 8 bits,
    by their depth, and ``deep`` their paths; ``pages`` counts TIFFs by the number of theirs, where it is above 1.
    """

    shown: Range | None
    sizes: list[tuple[int, int]] = field(default_factory=list)
    extents: dict[Depth, Extent] = field(default_factory=dict)
    deep: dict[Depth, list[Path]] = field(default_factory=lambda: defaultdict(list))
    transparent: bool = False
    pages: Counter[int] = field(default_factory=Counter)

    @property
    def shapes(self) -> npt.NDArray[np.int64]:
        """Return the sizes as an array [M, 2]."""
        return np.array(self.sizes, np.int64).reshape(-1, 2)

    def add(self, path: Path) -> None:
        """Look at a picture, and at its values if it has more than 8 bits. Raises `UnreadableImage`."""
        picture = opened(path, self.shown)
        self.transparent |= picture.transparent
        if picture.pages > 1:
            self.pages[picture.pages] += 1
        if picture.depth is not None:
            depth, found = picture.depth, Extent.of(*picture.values())
            if found.gaps and self.shown is None:
                picture.pixels()  # which says what is wrong with it
            self.extents[depth] = found.joined(self.extents.get(depth, found))
            self.deep[depth].append(path)
        self.sizes.append((picture.width, picture.height))

    def decisions(self) -> Iterator[str]:
        """Yield what is decided about the values of all pictures. Raises `UserError` for what cannot be."""
        if isinstance(self.shown, Bands):
            yield self.shown.note
        elif self.shown is not None:
            yield range_note(self.shown, any(found.gaps for found in self.extents.values()), bool(self.extents))
        for depth, found in self.extents.items() if self.shown is None else ():
            if depth.outside(found) or depth.unused(found):
                first, *more = self.deep[depth]
                which = f"{first} and {len(more)} more have" if more else f"{first} has"
                raise UserError(f"{which} {depth.found(found)}; {depth.hint(found)}.")
            yield depth.note
        for pages, number_of in self.pages.most_common(1):
            are = "picture has" if number_of == 1 else "pictures have"
            hint = f", which --channels {pages} reads as so many channels" if pages <= MOST_CHANNELS else ""
            yield f"the first page of TIFFs is read alone: {number_of} {are} {pages}{hint}"
        if self.transparent:
            yield "transparent pictures are shown on white"


def sample(paths: Sequence[Path], shown: Range | None, reasons: dict[Path, str]) -> Sample:
    """Look at up to 500 images spread over the paths.

    Those that cannot be read are added to ``reasons``; where none of them can be read, the first of all paths that can
    is looked for.
    """
    found = Sample(shown)

    def look(path: Path) -> None:
        try:
            found.add(path)
        except UnreadableImage as error:
            reasons[path] = error.reason

    for path in paths[:: max(len(paths) // SAMPLED, 1)]:
        look(path)
    for path in paths:
        if found.sizes:
            break
        look(path)
    return found


def range_note(shown: Range, gaps: bool, used: bool) -> str:
    """Return what a range that was given means for pictures, or arrays."""
    if not used:
        return f"--range {shown} changes nothing: the pictures that were looked at have 8 bits"
    black = ", and so are pixels that are NaN" if gaps else ""
    return f"values of more than 8 bits: {number(shown.low)} is black{black}, {number(shown.high)} white (--range)"


def flat_note(flat: Sequence[str], of: int, shown: Range | None = None) -> Iterator[str]:
    """Yield a sentence on images that are nearly one colour, of so many, where there are some."""
    if not flat:
        return
    are = "is" if len(flat) == 1 else "are"
    count = f"{len(flat):,} of {of:,} images that were looked at {are} nearly one colour"
    named = f"{count} ({', '.join(flat[:NAMED])}{', ...' if len(flat) > NAMED else ''})"
    if len(flat) <= MANY * of:
        yield named
    elif shown is None or not shown.given:
        yield f"{named}: most show nothing to learn from; they are blank, or use little of 0 to 255: save them anew"
    else:
        own = f"{number(shown.low)},{number(shown.high)}"
        yield f"{named}: most show nothing to learn from; they are blank, or --range {own} is not their range"


def is_flat(picture: Picture) -> bool:
    """Return whether a picture is nearly one colour. Raises `UnreadableImage`."""
    return bool(flat_places(picture.pixels(COARSE)[None])) and bool(flat_places(picture.pixels()[None]))


def flat_places(images: Tensor) -> list[int]:
    """Return which of images, uint8 [N, 3, H, W], are nearly one colour."""
    parts = [part.flatten(2).float().std(dim=2, correction=0).amax(dim=1) for part in torch.split(images, CHUNK)]
    return (torch.cat(parts) < FLAT).nonzero().flatten().tolist()
