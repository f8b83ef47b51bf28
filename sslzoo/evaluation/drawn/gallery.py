"""Galleries: pictures beside their nearest neighbours, framed by whether they are of one class."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from ...data.splits import Split
from ...tools.quoting import printable
from ...views.features import images

TILE, GAP, LINE, FRAME, LETTERS = 96, 8, 14, 4, 10  # px
RIGHT, WRONG, PLAIN = "#2a7f62", "#b3261e", "#8a8a8a"


@dataclass(frozen=True)
class Tile:
    """Holds a picture uint8 [3, H, W], the words below it, and whether its class is right; None where nobody knows.

    The ``name`` of its file, where it has one, is a line of its own, with the file's folder, from the beginning of
    which what is too long is left out.
    """

    picture: Tensor
    caption: str
    right: bool | None = None
    name: str = ""

    @property
    def lines(self) -> list[tuple[str, str, bool]]:
        """The texts below the picture, with their colours and whether they may be cut at their ends."""
        name = str(PurePath(*PurePath(self.name).parts[-2:])) if self.name else ""
        return [one for one in ((self.caption, "black", True), (name, PLAIN, False)) if one[0]]


def pictures(split: Split, numbers: Sequence[int], size: int) -> list[Tensor]:
    """Return the images of these numbers in a split, uint8 [3, size, size]."""
    chosen = split.take(torch.as_tensor(list(numbers), dtype=torch.long))
    return [picture for batch in images(chosen, size) for picture in batch]


def in_colours(picture: Tensor) -> Tensor:
    """Return a picture [C, H, W] as [3, H, W]: its first three channels, or its first one as gray."""
    return picture[:3] if len(picture) >= 3 else picture[:1].expand(3, -1, -1)


def png(rows: Sequence[tuple[str, Sequence[Tile]]]) -> bytes:
    """Return a PNG of rows of tiles, each row below its heading; the first tile of a row stands apart."""
    widest = max(len(tiles) for _, tiles in rows)
    lines = max(len(tile.lines) for _, tiles in rows for tile in tiles)
    high = LINE + TILE + 2 * FRAME + lines * LINE + GAP
    wide = TILE + 2 * FRAME + GAP
    canvas = Image.new("RGB", (GAP + widest * wide + 2 * GAP, GAP + high * len(rows)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.font = font()
    for i, (heading, tiles) in enumerate(rows):
        top = GAP + i * high
        draw.text((GAP, top), drawable(heading), fill="black")
        for j, tile in enumerate(tiles):
            left = GAP + j * wide + (2 * GAP if j else 0)
            color = PLAIN if tile.right is None else RIGHT if tile.right else WRONG
            side = TILE + 2 * FRAME
            draw.rectangle((left, top + LINE, left + side - 1, top + LINE + side - 1), fill=color)
            shown = Image.fromarray(np.ascontiguousarray(in_colours(tile.picture).permute(1, 2, 0).numpy()))
            canvas.paste(shown.resize((TILE, TILE), Image.Resampling.NEAREST), (left + FRAME, top + LINE + FRAME))
            below = top + LINE + side + 1
            for line, (text, ink, at_end) in enumerate(tile.lines):
                draw.text((left, below + line * LINE), cut(draw, drawable(text), side, at_end), fill=ink)
    written = io.BytesIO()
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", "sslzoo")
    canvas.save(written, format="PNG", pnginfo=about)
    return written.getvalue()


@cache
def font() -> ImageFont.FreeTypeFont:
    """Return the font of matplotlib's pictures, which has the letters of most alphabets, in a size for tiles."""
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont("DejaVu Sans"), LETTERS)


@cache
def _letters() -> frozenset[int]:
    """Return the letters that the font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(font().path).get_charmap())


def drawable(text: str) -> str:
    r"""Return a text whose letters the font has, those that it lacks being spelled: ``\u732b``."""
    whole = printable(normalize("NFC", text))  # a Mac writes an accent behind its letter
    return "".join(one if ord(one) in _letters() else one.encode("ascii", "backslashreplace").decode() for one in whole)


def cut(draw: ImageDraw.ImageDraw, text: str, width: int, at_end: bool = True) -> str:
    """Return a text whose end is left out where it is wider than so many px, or its beginning."""
    if draw.textlength(text) <= width:
        return text
    while text and draw.textlength(f"{text}..") > width:
        text = text[:-1] if at_end else text[1:]
    return f"{text}.." if at_end else f"..{text}"
