"""Galleries: pictures beside their nearest neighbours, framed by whether they are of one class."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, PngImagePlugin
from torch import Tensor

from ...data.splits import Split
from ...tools.quoting import printable
from ...views.features import images

TILE, GAP, LINE, FRAME = 96, 8, 14, 4  # px
RIGHT, WRONG, PLAIN = "#2a7f62", "#b3261e", "#8a8a8a"


@dataclass(frozen=True)
class Tile:
    """Holds a picture uint8 [3, H, W], the words below it, and whether its class is right; None where nobody knows."""

    picture: Tensor
    caption: str
    right: bool | None = None


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
    high = LINE + TILE + 2 * FRAME + LINE + GAP
    wide = TILE + 2 * FRAME + GAP
    canvas = Image.new("RGB", (GAP + widest * wide + 2 * GAP, GAP + high * len(rows)), "white")
    draw = ImageDraw.Draw(canvas)
    for i, (heading, tiles) in enumerate(rows):
        top = GAP + i * high
        draw.text((GAP, top), printable(heading), fill="black")
        for j, tile in enumerate(tiles):
            left = GAP + j * wide + (2 * GAP if j else 0)
            color = PLAIN if tile.right is None else RIGHT if tile.right else WRONG
            side = TILE + 2 * FRAME
            draw.rectangle((left, top + LINE, left + side - 1, top + LINE + side - 1), fill=color)
            shown = Image.fromarray(np.ascontiguousarray(in_colours(tile.picture).permute(1, 2, 0).numpy()))
            canvas.paste(shown.resize((TILE, TILE), Image.Resampling.NEAREST), (left + FRAME, top + LINE + FRAME))
            draw.text((left, top + LINE + side + 1), cut(draw, printable(tile.caption), side), fill="black")
    written = io.BytesIO()
    about = PngImagePlugin.PngInfo()
    about.add_text("Software", "sslzoo")
    canvas.save(written, format="PNG", pnginfo=about)
    return written.getvalue()


def cut(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Return a text whose end is left out where it is wider than so many px."""
    if draw.textlength(text) <= width:
        return text
    while text and draw.textlength(f"{text}..") > width:
        text = text[:-1]
    return f"{text}.."
