"""A folder of photos as people have it: nested classes, loose files, broken and hidden ones, many formats and names."""

import io
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

SPECIES = ["rosa canina", "Tulpe (früh)", "菊", "aster_alpinus", "Lilie - weiß"]
TRIPS = ["2019", "été 2020", "trip 3/day 1"]
EXACT = [(".png", ".bmp"), (".tif", ".webp"), (".BMP", ".PNG"), (".tiff", ".png")]  # two files of the same pixels
COPIED = [".jpg", ".JPEG", ".heic"]  # two files of the same bytes


@dataclass(frozen=True)
class Photo:
    """What is known of a file: its species, empty of a loose one, which picture it shows, and whether it is broken."""

    species: str
    picture: int
    broken: bool = False


def pictures(number: int) -> list[Image.Image]:
    """So many photos: of the folder that SSLZOO_PHOTOS names, else drawn: a few coloured shapes on a ground each."""
    if folder := os.environ.get("SSLZOO_PHOTOS"):
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        chosen = np.random.default_rng(0).permutation(len(files))[:number]
        assert len(chosen) == number, f"{folder} has {len(files)} photos, and {number} are needed"
        return [Image.open(files[i]).convert("RGB") for i in chosen]
    rng, found = np.random.default_rng(0), []
    for _ in range(number):
        grid = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        found.append(Image.fromarray(grid).resize((84, 60), Image.Resampling.BICUBIC))
    return found


def encoded(picture: Image.Image, suffix: str) -> bytes:
    """A picture as a file of this suffix; without loss where the format can."""
    kind = {".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".heic": "HEIF"}
    written, name = io.BytesIO(), suffix.lower()
    if name == ".heic":
        import pillow_heif

        pillow_heif.from_pillow(picture).save(written, quality=80)
    else:
        picture.save(written, kind.get(name, name[1:].upper()), **({"lossless": True} if name == ".webp" else {}))
    return written.getvalue()


def make(root: Path, number: int) -> dict[str, Photo]:
    """Write so many photos, each picture in two files, and what lies about beside them; return what is where.

    Half of the pictures are below a folder of their species, the others loose. One in 150 files is broken.
    """
    copied = [suffix for suffix in COPIED if suffix != ".heic" or find_spec("pillow_heif") is not None]
    truth: dict[str, Photo] = {}
    for j, picture in enumerate(pictures(number // 2)):
        species = SPECIES[j // 2 % len(SPECIES)] if j % 2 else ""
        if j % 5 < len(EXACT):
            suffixes = EXACT[j % 5]
            contents = [encoded(picture, suffix) for suffix in suffixes]
        else:
            suffixes = (copied[j // 5 % len(copied)],) * 2
            contents = [encoded(picture, suffixes[0])] * 2
        for twin, (suffix, content) in enumerate(zip(suffixes, contents, strict=True)):
            name = [f"IMG {j:04}{suffix}", f"フォト-{j} (copy, “best” é){suffix}"][twin]
            place = f"{species}/{TRIPS[(j + twin) % len(TRIPS)]}/{name}" if species else name
            broken = j % 75 == 37 and twin == 1
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(content[: len(content) // 3] if broken else content)
            truth[place] = Photo(species, j, broken)
    good = encoded(pictures(1)[0], ".jpg")
    for name, content in {
        ".DS_Store": b"\0\0\0\1Bud1", "Thumbs.db": b"\xd0\xcf", "notes.txt": "été".encode(), ".hidden.jpg": good,
        "._IMG 0001.jpg": b"\0\5\x16\7", f"{SPECIES[0]}/.thumbnails/IMG 0001.jpg": good,
        f"{SPECIES[1]}/list.csv": b"file,label\n",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return truth
