"""Images in files and tensors: what counts as one, reading one, and squaring many."""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from simplejpeg import decode_jpeg
from torch import Tensor

from ..processes.locks import fork_safe
from ..tools.errors import UserError, exhausted, no_memory
from .contents.hashes import MOST_BYTES, stamp_of
from .contents.kept import Stamp
from .decoded import heif
from .decoded.ranges import Range, Values
from .depth import Depth, Extent, Unsupported, as_8_bits, find_bytes, raw_mode, read_values
from .packed.index import read_with_state

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
CHUNK = 1024  # images resized at a time
ORIENTATION = 0x0112  # the tag of EXIF
SIDEWAYS = (5, 6, 7, 8)  # its values that swap width and height
LARGE = 89_478_485  # pixels of which Pillow warns
MAX_PIXELS = 2 * LARGE  # an image whose header says more is taken for a bomb, as Pillow does
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # whose decoders may open a file, whatever its name
USUAL_SCANS, SCANNED_PIXELS = 16, 1_000_000_000  # of a JPEG that is refined: more scans of more pixels take too long
COPY = 2  # times a view's size: the shorter side of a copy, by which a crop of a quarter of the area loses nothing
OF_A_FILE = (  # errors of the system that are a file's own: it stays so, whenever it is read
    errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL,
    errno.EFBIG, errno.ENXIO,
)  # fmt: skip
LEAST_MEMORY = 1 << 24  # bytes that any picture may take
STRIP = 8  # times as long as wide: no more of a longer image is seen
SCAN = b"\xff\xda"  # begins one in a JPEG
GRAYS = {"L;2": 85, "L;4": 17}  # by which Pillow scales the pixels of a PNG of few grays, and not the one that is clear
TIFF = (b"II*\0", b"MM\0*")  # how one begins
EXACT = {"fastdct": False, "fastupsample": False}  # Pillow's pixels, in less time


_pillow_limit = fork_safe()


class UnreadableImage(UserError):
    """An image file that cannot be read; ``reason`` says why, without its path."""

    def __init__(self, sentence: str, reason: str = ""):
        super().__init__(sentence)
        self.reason = reason


def is_picture(suffix: str) -> bool:
    """Return whether files of a suffix, in small letters, are images that can be read here."""
    return suffix in SUFFIXES or (suffix in heif.SUFFIXES and heif.is_there())


def is_image(path: Path) -> bool:
    """Return whether a file's name says that it is an image; hidden ones are none."""
    return is_picture(path.suffix.lower()) and not path.name.startswith(".") and path.is_file()


class Picture:
    """An image file whose header is read; ``width`` and ``height`` in px, turned as its EXIF says.

    ``shown`` are the values that are black and white in a picture of more than 8 bits; without it those of its type
    are, and a picture with values beyond them is unreadable. What is transparent lies on white. Raises
    `UnreadableImage` for one that cannot be read, when it is made or when its pixels are.
    """

    def __init__(self, path: Path, shown: Range | None = None):
        self.path, self.file, self.width, self.height, self.shown = path, b"", 0, 0, shown
        with self.reading():
            self.file, self.state = read_with_state(path, MOST_BYTES)
            self.image = self.open()
            self.depth = Depth.of(self.image)
            self.turned = "exif" in self.image.info and self.image.getexif().get(ORIENTATION, 1) != 1
            sideways = self.turned and self.image.getexif()[ORIENTATION] in SIDEWAYS
        self.width, self.height = self.image.size[::-1] if sideways else self.image.size
        if self.width * self.height > MAX_PIXELS:
            size = f"{self.width * self.height / 1e6:,.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}"
            raise UnreadableImage(f"{path} has {size}; shrink it.", f"has {size}; shrink it")
        scans = self.file.count(SCAN) if self.image.format in ("JPEG", "MPO") else 0
        if scans > USUAL_SCANS and scans * self.width * self.height > SCANNED_PIXELS:
            size = f"{scans:,} scans, which take too long"
            raise UnreadableImage(f"{path} has {size}; save it anew.", f"has {size}; save it anew")

    @property
    def pages(self) -> int:
        """The number of pages of a TIFF; 1 of other pictures."""
        return int(getattr(self.image, "n_frames", 1)) if self.image.format == "TIFF" else 1

    @property
    def transparent(self) -> bool:
        """Whether something of it is, which lies on white."""
        return bool(self.image.has_transparency_data)

    def open(self) -> Image.Image:
        """Return the image with its header read."""
        with _unbounded():
            image = Image.open(io.BytesIO(self.file), formats=(*FORMATS, *self._further_formats()))
            find_bytes(image)
        if (gray := GRAYS.get(raw_mode(image))) and "transparency" in image.info:
            image.info["transparency"] *= gray
        return image

    def _further_formats(self) -> tuple[str, ...]:
        """Return the format of a file that another library reads."""
        if not (heif.holds(self.file) and heif.is_there()):
            return ()
        heif.register()
        return (heif.FORMAT,)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn whatever a broken file raises into a sentence."""
        try:
            yield
        except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error, ... for broken files
            self.check_machine(error)
            reason = _reason(error, self.file)
            raise UnreadableImage(
                f"{self.path} cannot be read as an image ({reason}); repair or remove it.", reason
            ) from None

    def check_machine(self, error: Exception) -> None:
        """Raise `UserError` for an error that is none of the file's: full memory, too many files, a failing disk."""
        if no_memory(error):
            try:
                bytearray(max(8 * self.width * self.height, LEAST_MEMORY))
            except MemoryError:
                raise UserError(
                    f"Memory does not hold {self.path} ({self.width} x {self.height} px); end what else uses it, or "
                    "shrink the picture."
                ) from None
        elif isinstance(error, FileNotFoundError | NotADirectoryError) and not self.path.parent.is_dir():
            raise UserError(f"{self.path.parent} is gone; bring the folder back, and start again.") from None
        elif isinstance(error, OSError) and error.errno is not None and error.errno not in OF_A_FILE:
            raise UserError(
                exhausted(error)
                or f"{self.path} cannot be read now ({error.strerror}); see to its disk, and start again."
            ) from None

    def pixels(self, shrink: float = 1) -> Tensor:
        """Return uint8 [3, H, W]; a JPEG that may be ``shrink`` times smaller, at least twice, is decoded no finer."""
        with self.reading():
            if self.image.format == "JPEG" and self.image.mode == "RGB" and not self.turned:
                with suppress(ValueError):  # what this finds broken Pillow may still read
                    decoded = decode_jpeg(self.file, **EXACT, **self._coarse_options(shrink))
                    return torch.from_numpy(decoded).permute(2, 0, 1)
            if self.depth is None:
                with _unbounded() if self.width * self.height > LARGE else nullcontext():
                    return torch.from_numpy(np.array(as_rgb(self.image))).permute(2, 0, 1)
        values, mode = self.values()
        if self.shown is None and (why := self.depth.misfit(Extent.of(values, mode))) is not None:
            raise UnreadableImage(f"{self.path} {why}.", why)
        shown = as_rgb(as_8_bits(values, mode, self.shown or self.depth.usual))
        return torch.from_numpy(np.array(shown)).permute(2, 0, 1)

    def values(self) -> tuple[Values, str]:
        """Return the values of a picture of more than 8 bits [H, W, channels], and the mode that they have."""
        with self.reading():
            return read_values(self.open, self.shown is not None)

    def copy(self, size: int) -> Tensor:
        """Return uint8 [3, H, W], fine enough for views of a size in px that are cut out of it.

        The shorter side is at most twice that. What it is depends on the picture and the size alone, so that it can be
        kept.
        """
        side = COPY * size
        pixels = self.pixels(min(self.height, self.width) / side)
        if min(pixels.shape[1:]) <= side:
            return pixels
        scale = side / min(pixels.shape[1:])
        shape = (max(round(pixels.shape[1] * scale), side), max(round(pixels.shape[2] * scale), side))
        return resized(pixels[None], shape)[0]

    @property
    def stamp(self) -> Stamp:
        """The hash of the file's content, and the state in which it was read."""
        return stamp_of(self.file, self.state)

    def _coarse_options(self, shrink: float) -> dict[str, int]:
        """Return the decoder's options for a smaller transform of each block, by at least two."""
        if shrink < 2:
            return {}
        return {"min_height": int(self.height / shrink), "min_width": int(self.width / shrink), "min_factor": 2}


@contextmanager
def _unbounded() -> Iterator[None]:
    """Take away Pillow's bound on pixels, of which it would warn at half of ours, for one thread at a time."""
    with _pillow_limit:
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _reason(error: Exception, file: bytes) -> str:
    """Return why a file cannot be read, in a few words."""
    if isinstance(error, OSError) and error.strerror:  # the system's
        return error.strerror.lower()
    if isinstance(error, Unsupported):
        return str(error)
    if not file:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError) and heif.holds(file) and not heif.is_there():
        return heif.MISSING
    if isinstance(error, UnidentifiedImageError) and file.startswith(TIFF):
        return (
            "it is a TIFF of a kind that is not read; save it with 8 or 16 bits, or as 32-bit floats, or say --channels"
        )
    if isinstance(error, UnidentifiedImageError):
        return "it holds no image"
    return "it breaks off" if "truncated" in str(error).lower() else f"it is broken, {type(error).__name__}"


def pixels_of(picture: object) -> Tensor | None:
    """Return a picture that is in memory as uint8 [3, H, W]; None for what is none.

    It is one of Pillow's of 8 bits, or uint8 [H, W], [H, W, 1 or 3] of numpy or [1 or 3, H, W] of torch.
    """
    if isinstance(picture, Image.Image):
        picture = np.array(as_rgb(picture))
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim in (2, 3):
        by_pixel = picture[:, :, None] if picture.ndim == 2 else picture
        picture = torch.from_numpy(by_pixel.copy()).permute(2, 0, 1)
    if not isinstance(picture, Tensor) or picture.dtype != torch.uint8 or picture.ndim != 3 or not picture.numel():
        return None
    return picture.expand(3, -1, -1) if len(picture) in (1, 3) else None


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits or less and any mode as RGB, turned as its EXIF says; what is transparent on white."""
    turned = ImageOps.exif_transpose(image)
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    seen = turned.convert("LA" if turned.mode == "La" else "RGBA").convert("RGBA")
    ground = Image.new("RGB", seen.size, "white")
    ground.paste(seen, mask=seen)
    return ground


def square(images: Tensor, size: int) -> Tensor:
    """Return uint8 [N, 3, H, W] as [N, 3, size, size]: the shorter side resized (antialiased), the centre kept."""
    long = STRIP * min(images.shape[-2:])
    if max(images.shape[-2:]) > long:  # the ends of a strip would be enlarged to no end
        top, left = (max((side - long) // 2, 0) for side in images.shape[-2:])
        images = images[..., top : top + long, left : left + long]
    height, width = images.shape[-2:]
    if min(height, width) != size:
        scale = size / min(height, width)
        shape = (max(round(height * scale), size), max(round(width * scale), size))
        images = torch.cat([resized(part, shape) for part in torch.split(images, CHUNK)])
        height, width = shape
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size].contiguous()


def resized(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return uint8 [N, 3, H, W] at another height and width in px, antialiased."""
    found = F.interpolate(images.float(), shape, mode="bilinear", antialias=True, align_corners=False)
    return found.round().clamp(0, 255).to(torch.uint8)
