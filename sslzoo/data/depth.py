"""Pictures of more than 8 bits: their values, and which of these are black and white."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ..tools.errors import UserError

Values = npt.NDArray[Any]  # [H, W, channels], of the file's own numbers
Open = Callable[[], Image.Image]

ROWS = 512  # of a picture that are scaled at a time
LEAST_SHARE = 16  # a range of which so small a part is used is not what the pictures were made for
WHITE_IS_ZERO = 0  # of TIFF's photometric interpretation
PHOTOMETRIC, BITS = 262, 258  # tags of TIFF
DEEP = re.compile(r"(RGB|RGBA|RGBa|RGBX|LA);16[BLN]")  # Pillow's words for 16 bits of which it keeps 8
NATIVE = "L" if sys.byteorder == "little" else "B"
OTHER = {"B": "L", "L": "B"}


@dataclass(frozen=True)
class Range:
    """The values that are black and white: what lies between is gray, what lies beyond is clipped, NaN is black."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: object) -> "Range | None":
        """Return the range of ``--range LOW,HIGH``, two numbers of which the second is larger; None of None.

        Raises `UserError`.
        """
        if text is None:
            return None
        try:
            low, high = map(float, str(text).split(","))
        except ValueError:
            raise UserError(f"--range cannot be {text!r}; it is two numbers, as in --range 0,4095.") from None
        if not (isfinite(low) and isfinite(high) and low < high and 0 < 255 / (high - low) < inf):
            raise UserError(f"--range cannot be {text!r}; its first number is black, and a larger one white.")
        return cls(low, high)

    def __str__(self) -> str:
        return f"{number(self.low)},{number(self.high)}"

    def to_8_bits(self, values: Values) -> npt.NDArray[np.uint8]:
        """Return values of any shape as uint8: the low end is 0, the high end 255."""
        shown = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), ROWS):  # float64 of all of them may not fit the memory
            part = np.nan_to_num(values[start : start + ROWS].astype(np.float64), nan=self.low)
            shown[start : start + ROWS] = np.rint((part.clip(self.low, self.high) - self.low) * self.scale)
        return shown

    @property
    def scale(self) -> float:
        """Return the grays of one step."""
        return 255 / (self.high - self.low)


class Extent(NamedTuple):
    """The smallest and the largest finite value of pictures, and whether some of their pixels are not finite."""

    low: float
    high: float
    gaps: bool = False

    @classmethod
    def of(cls, values: Values, mode: str = "") -> "Extent":
        """Return that of values of any shape, without the last channel where a mode says that it is alpha."""
        seen = values[..., :-1] if mode.endswith("A") else values
        if seen.dtype.kind == "f" and not np.isfinite(seen).all():
            finite = seen[np.isfinite(seen)]
            return cls(float(finite.min()), float(finite.max()), True) if len(finite) else cls(0, 0, True)
        return cls(float(seen.min()), float(seen.max()))

    def joined(self, other: "Extent") -> "Extent":
        """Return that of both."""
        return Extent(min(self.low, other.low), max(self.high, other.high), self.gaps or other.gaps)


class Depth(NamedTuple):
    """What a picture's header says of its values: their name, and what is black and white where nobody says."""

    name: str
    usual: Range

    @classmethod
    def of(cls, image: Image.Image) -> "Depth | None":
        """Return that of a picture that is opened and not read yet; None where it has 8 bits or less."""
        raw = raw_mode(image)
        if image.mode == "F":
            return cls("floats", Range(0, 1))
        if image.mode == "I" and image.format != "PPM":
            return cls("signed 16 bits" if raw.endswith(("16S", "16BS")) else "32-bit integers", Range(0, 255))
        if image.mode.startswith("I") or DEEP.fullmatch(raw):
            top = _largest(image)
            return cls(f"{top.bit_length()} bits", Range(0, top))
        return None

    @property
    def note(self) -> str:
        """Return what is decided about values that nobody gave a range for."""
        low, high = number(self.usual.low), number(self.usual.high)
        if self.whole:
            return f"pictures of {self.name}: {low} is black, {high} white"
        return f"{self.name} from {low} to {high} are read as " + (
            "8 bits" if self.usual.high > 1 else "black to white"
        )

    @property
    def whole(self) -> bool:
        """Return whether the usual range is all that the values can be."""
        return self.usual.high > 255

    def outside(self, found: Extent) -> bool:
        """Return whether values lie outside the usual range."""
        return found.low < self.usual.low or found.high > self.usual.high

    def unused(self, found: Extent) -> bool:
        """Return whether the largest value of many pictures leaves nearly all of the usual range unused."""
        return found.high * LEAST_SHARE <= self.usual.high

    def misfit(self, found: Extent) -> str | None:
        """Return why values cannot be read without a range, as a predicate; None where they can."""
        if found.gaps:
            return f"has pixels that are NaN or infinite; {self.hint(found)}, and NaN is black"
        return f"has {self.found(found)}; {self.hint(found)}" if self.outside(found) else None

    def found(self, found: Extent) -> str:
        """Return values in words."""
        room = f", of which {number(self.usual.high)} is the largest" if self.whole else ""
        return f"values from {found.low:.6g} to {found.high:.6g} in {self.name}{room}"

    def hint(self, found: Extent) -> str:
        """Return what to do about values that fit no range."""
        return f"say which range is black to white with --range {self.suggested(found)}"

    def suggested(self, found: Extent) -> Range:
        """Return a range that holds the values, for whole bits all that they can have."""
        if self.whole:
            return Range(0, 2 ** max(int(found.high).bit_length(), 1) - 1)
        return Range(found.low, found.high) if found.low < found.high else Range(found.low, found.low + 1)


def number(value: float) -> str:
    """Return a number as a person writes it."""
    return f"{value:.15g}"


def read_values(open_image: Open) -> tuple[Values, str]:
    """Return the values of a picture of more than 8 bits, turned as its EXIF says, and the mode that they have."""
    image = open_image()
    raw, white_is_zero = raw_mode(image), _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
    if not DEEP.fullmatch(raw):
        top, clear = _largest(image), image.info.get("transparency")
        values = np.asarray(ImageOps.exif_transpose(image))[..., None]
        if image.format == "PPM" and top < 0xFFFF:
            values = np.rint(values * (top / 0xFFFF)).astype(np.uint16)  # Pillow has scaled them
        if white_is_zero and image.mode.startswith("I;16"):
            values = top - values
        return _with_alpha(values, clear, "L")
    if raw.startswith("LA"):  # Pillow knows no mode of two 16 bits: its bytes are read as four channels
        halves = _read_as(image, "RGBA", "RGBA")
        return halves[..., 0::2].astype(np.uint16) << 8 | halves[..., 1::2], "LA"
    mode, kind, order = image.mode, raw[:-1].replace("a;", "A;"), raw[-1].replace("N", NATIVE)
    high = _read_as(image, mode, kind + order).astype(np.uint16)
    values = high << 8 | _read_as(open_image(), mode, kind + OTHER[order])  # Pillow's other order has the other byte
    if raw.startswith("RGBa"):  # multiplied by alpha
        alpha = np.maximum(values[..., 3:], 1).astype(np.float64)
        values[..., :3] = np.rint(values[..., :3] * 65535.0 / alpha).clip(0, 65535)
    return _with_alpha(values, image.info.get("transparency") if mode == "RGB" else None, mode)


def as_8_bits(values: Values, mode: str, shown: Range) -> Image.Image:
    """Return values as an image of 8 bits; alpha is always of 16."""
    colours = values.shape[-1] - mode.endswith("A")
    bands = [shown.to_8_bits(values[..., i]) for i in range(colours)]
    bands += [Range(0, 0xFFFF).to_8_bits(values[..., i]) for i in range(colours, values.shape[-1])]
    return Image.merge(mode, [Image.fromarray(band) for band in bands])


def _with_alpha(values: Values, clear: Any, mode: str) -> tuple[Values, str]:
    """Return values with a channel more, where PNG says that one colour is clear."""
    if clear is None:
        return values, mode
    alpha = np.where((values == np.asarray(clear)).all(axis=-1, keepdims=True), 0, 0xFFFF).astype(np.uint16)
    return np.concatenate([values, alpha], axis=-1), mode + "A"


def _read_as(image: Image.Image, mode: str, raw: str) -> npt.NDArray[np.uint8]:
    """Return the bytes of a picture that Pillow unpacks from other words for them."""
    if mode != image.mode:
        image._mode = mode
    tiles = getattr(image, "tile", [])
    args = [raw if isinstance(tile.args, str) else (raw, *tile.args[1:]) for tile in tiles]
    image.tile = [tile._replace(args=one) for tile, one in zip(tiles, args, strict=True)]  # type: ignore[attr-defined]
    return np.asarray(ImageOps.exif_transpose(image))


def raw_mode(image: Image.Image) -> str:
    """Return Pillow's word for how a picture's values lie in its file; nothing where it has none."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else ""
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _tag(image: Image.Image, tag: int) -> Any:
    tags = getattr(image, "tag_v2", {})
    return tags.get(tag)


def _largest(image: Image.Image) -> int:
    """Return the largest value that a picture's header allows for."""
    tiles, bits = getattr(image, "tile", None), _tag(image, BITS)
    if image.format == "PPM" and tiles and isinstance(tiles[0].args, tuple):
        return int(tiles[0].args[1])
    return (1 << int(bits[0] if bits else 16)) - 1
