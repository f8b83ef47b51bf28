"""Pictures of more than 8 bits: their values, and which of these are black and white."""

import re
import sys
from collections.abc import Callable
from math import ceil, floor, log10
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .decoded.ranges import Range, Values, number

Open = Callable[[], Image.Image]

LEAST_SHARE = 16  # a range of which so small a part is used is not what the pictures were made for
WHITE_IS_ZERO = 0  # of TIFF's photometric interpretation
APART, UNCOMPRESSED, SIGNED = 2, 1, 2  # of its planes, its compression and its samples
BITS, COMPRESSION, PHOTOMETRIC, PLANES, SAMPLES = 258, 259, 262, 284, 339  # tags of TIFF
DEEP = re.compile(r"(RGB|RGBA|RGBa|RGBX|LA|[RGBA]);16[BLN]")  # Pillow's words for 16 bits of which it keeps 8
NATIVE = "L" if sys.byteorder == "little" else "B"
OTHER = {"B": "L", "L": "B"}


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


class Unsupported(ValueError):
    """Values lie in a file as they are not read here; the message is the reason, in a few words."""


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
        if image.mode == "L" and _tag(image, SAMPLES) == (SIGNED,):
            return cls("signed 8 bits", Range(0, 255))
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
        return suggested(found, not self.whole)


def suggested(found: Extent, real: bool) -> Range:
    """Return a range that holds values: of whole numbers from 0 on all that so many bits can have.

    Of others its ends have three digits or so, beyond the values.
    """
    if not real and found.low >= 0:
        return Range(0, 2 ** max(int(found.high).bit_length(), 1) - 1)
    if found.low >= found.high or (found.low.is_integer() and found.high.is_integer()):
        return Range(found.low, max(found.high, found.low + 1))
    digits = 2 - floor(log10(found.high - found.low))
    step = 10.0**-digits
    low, high = round(floor(found.low / step) * step, digits), round(ceil(found.high / step) * step, digits)
    return Range(low, high) if low <= found.low and found.high <= high else Range(found.low, found.high)


def read_values(open_image: Open, exact: bool) -> tuple[Values, str]:
    """Return the values of a picture of more than 8 bits, turned as its EXIF says, and the mode that they have.

    Where they are not to be exact, those of 16 bits may be read to 8. Raises `Unsupported` where that is all there is.
    """
    image = open_image()
    raw, white_is_zero = raw_mode(image), _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
    if not DEEP.fullmatch(raw):
        top, clear = _largest(image), image.info.get("transparency")
        values = np.asarray(ImageOps.exif_transpose(image))[..., None]
        if image.mode == "L":
            values = values.view(np.int8)
        if image.format == "PPM" and top < 0xFFFF:
            values = np.rint(values * (top / 0xFFFF)).astype(np.uint16)  # Pillow has scaled them
        if white_is_zero and image.mode.startswith("I;16"):
            values = top - values
        return _with_alpha(values, clear, "L")
    if raw.startswith("LA"):  # Pillow knows no mode of two 16 bits: its bytes are read as four channels
        image._mode = "RGBA"
        halves = _read_as(image, lambda word: "RGBA")
        return halves[..., 0::2].astype(np.uint16) << 8 | halves[..., 1::2], "LA"
    high: Values = _read_as(image, _plain).astype(np.uint16)
    if not _in_planes(image):  # Pillow's other order of bytes has the other byte
        low: Values = _read_as(open_image(), lambda word: _plain(word)[:-1] + OTHER[_plain(word)[-1]])
    elif exact:
        raise Unsupported("its 16 bits lie in compressed planes; save it with its channels interleaved")
    else:
        low = high
    values, mode = high << 8 | low, image.mode
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


def find_bytes(image: Image.Image) -> None:
    """Tell Pillow of 16 bits that it takes for 8, in planes of a TIFF, or narrows, in colours of PPM.

    Raises `Unsupported` for those of which it knows nothing.
    """
    tiles, raw = getattr(image, "tile", None) or [], raw_mode(image)
    if image.format == "TIFF" and raw in {*"RGBA"} and _bits(image) == 16:
        order = "L" if image.tag_v2.prefix == b"II" else "B"  # type: ignore[attr-defined]
        _retell(image, lambda word: f"{word};16{order}")
    elif image.format == "TIFF" and raw in {*"CMYK"} and _bits(image) == 16:
        raise Unsupported("its 16 bits lie in planes; save it with its channels interleaved")
    elif image.format == "PPM" and tiles[0].codec_name == "ppm" and tiles[0].args == ("RGB", 0xFFFF):
        image.tile = [tiles[0]._replace(codec_name="raw", args="RGB;16B")]  # type: ignore[attr-defined]


def _read_as(image: Image.Image, change: Callable[[str], str]) -> npt.NDArray[np.uint8]:
    """Return the bytes of a picture that Pillow unpacks from other words for them."""
    _retell(image, change)
    return np.asarray(ImageOps.exif_transpose(image))


def _retell(image: Image.Image, change: Callable[[str], str]) -> None:
    """Change Pillow's word for how the values lie, in all parts of a picture."""
    tiles = getattr(image, "tile", [])
    args = [change(one.args) if isinstance(one.args, str) else (change(one.args[0]), *one.args[1:]) for one in tiles]
    image.tile = [one._replace(args=word) for one, word in zip(tiles, args, strict=True)]  # type: ignore[attr-defined]


def _plain(word: str) -> str:
    """Return Pillow's word for 16 bits with the order of their bytes, alpha as it lies there."""
    return word.replace("a;", "A;")[:-1] + word[-1].replace("N", NATIVE)


def _in_planes(image: Image.Image) -> bool:
    """Return whether a TIFF keeps each channel alone and compressed, of which Pillow always reads the first byte."""
    return _tag(image, PLANES) == APART and bool(_tag(image, COMPRESSION) != UNCOMPRESSED)


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
    tiles = getattr(image, "tile", None)
    if image.format == "PPM" and tiles and isinstance(tiles[0].args, tuple):
        return int(tiles[0].args[1])
    return (1 << _bits(image)) - 1


def _bits(image: Image.Image) -> int:
    """Return the bits of a value by the header of a TIFF; 16 of other files."""
    bits = _tag(image, BITS)
    return int(bits[0]) if bits else 16
