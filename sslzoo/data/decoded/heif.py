"""HEIC photos, as telephones take them: read where pillow-heif is installed."""

from functools import cache
from importlib.util import find_spec

SUFFIXES = (".heic", ".heif", ".hif")
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # of a file's first box
FORMAT = "HEIF"  # Pillow's name for it
MISSING = "it is HEIC, which needs pillow-heif: pip install 'sslzoo[heic]'"


@cache
def is_there() -> bool:
    """Return whether pillow-heif is installed, which is not loaded for it."""
    return find_spec("pillow_heif") is not None


@cache
def register() -> None:
    """Make Pillow know the format."""
    import pillow_heif

    pillow_heif.register_heif_opener()


def holds(file: bytes) -> bool:
    """Return whether bytes begin as a file of the format."""
    return file[4:8] == b"ftyp" and file[8:12] in BRANDS
