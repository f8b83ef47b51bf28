"""A folder of JPEGs of more pixels than a view has, made from the embedded digits: for what reads image files.

python benchmarks/photos.py FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sslzoo.data import digits


def photos(folder: Path, n: int = 640) -> None:
    """So many images to train on and a quarter of it to test, a folder a class."""
    arrays = digits.load()
    for split, count in (("train", n), ("test", n // 4)):
        for i in range(count):
            place = folder / split / str(int(arrays[f"{split}_labels"][i]))
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(arrays[f"{split}_images"][i])
            pixels = pixels if pixels.shape[-1] == 3 else pixels.transpose(1, 2, 0)
            Image.fromarray(pixels).resize((72, 72)).save(place / f"{i}.jpg")


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=640, help="images to train on; a quarter of it beside, to test")
    options = parser.parse_args()
    photos(options.folder, options.n)


if __name__ == "__main__":
    main()
