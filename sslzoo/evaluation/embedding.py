"""Embeddings: features of a data set's splits with their labels, and the files that hold them."""

import os.path
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.formats.arrays import read_npy, read_npz
from ..data.splits import Dataset
from ..tools import files
from ..tools.errors import UserError
from ..tools.labels import read_names

ARRAYS = ("train_features", "train_labels", "test_features", "test_labels")
FEATURES = ("train_features", "test_features", "val_features")  # the first that is there is the first split
ALONE = ("features", "labels", "classes")  # of one split; names of classes are there beside two splits too


@dataclass(frozen=True)
class Gap:
    """Describes an image that has no row, since it could not be read: its place in its split, its file, its label."""

    split: str
    place: int
    file: str
    label: Any = None


@dataclass(frozen=True)
class Embedding:
    """Holds features [N, D] and labels of splits, by MedMNIST-like names: train_features, test_labels, ...

    The names of files, relative to the data, are texts there, train_files, ...; ``gaps`` are images without rows.

    The names of classes, where there are some, are an array of texts there too, "classes". ``data`` names the data set,
    and ``images`` are its images where they are known, one for each row. Of a run there are its ``seed`` and its
    ``group``, which runs share that differ by their seed alone. Neighbours are searched on ``device``. ``about`` says
    what was made of a file of weights, and what was done to images.
    """

    source: str
    data: str
    arrays: dict[str, npt.NDArray[Any]]
    images: Dataset | None = None
    seed: int | None = None
    group: str | None = None
    device: str = "cpu"
    note: str | None = None
    gaps: Sequence[Gap] = ()
    about: str | None = None

    @property
    def features(self) -> npt.NDArray[Any]:
        """Return the features of the first split [N, D]: train, in whatever order a file has them."""
        return next(self.arrays[key] for key in FEATURES if key in self.arrays)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the classes 0, 1, ..., or of the columns of labels; none where they are not known."""
        return read_names(self.source, self.arrays)


def holds_features(path: Path) -> bool:
    """Return whether a source is features of splits in files, as ``sslzoo embed`` writes them."""
    if path.suffix.lower() == ".npz":
        return not {*ARRAYS}.isdisjoint(names_in(path))
    return any(os.path.isfile(path / f"{name}.npy") for name in (ARRAYS[0], "features"))


def names_in(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz; none where it cannot be read."""
    with suppress(OSError, ValueError, zipfile.BadZipFile), zipfile.ZipFile(path) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]
    return []


def read_features(path: Path, arrays: dict[str, npt.NDArray[Any]] | None = None) -> Embedding:
    """Return features that ``sslzoo embed`` or anybody wrote: an .npz, or a folder of memory-mapped .npy files.

    ``arrays`` are those of another file, by the same names. With ``features`` and ``labels`` alone, the set is its own
    bank. Raises `UserError`.
    """
    if arrays is not None:
        arrays = {**arrays}
    elif path.suffix.lower() == ".npz":
        arrays = read_npz(path, f"'sslzoo embed SOURCE --out {path}' writes one")
    else:
        arrays = {one.stem: read_npy(one) for one in sorted(path.glob("*.npy")) if one.stem in (*ARRAYS, *ALONE)}
    if "features" in arrays and "train_features" not in arrays:
        arrays = {key if key == "classes" else f"train_{key}": arrays[key] for key in ALONE if key in arrays}
    if "train_features" not in arrays:
        raise UserError(f"{path} lacks {ARRAYS[0]}; it has to hold {', '.join(ARRAYS)}.")
    for split in ("train", "test"):
        rows, labels = arrays.get(f"{split}_features"), arrays.get(f"{split}_labels")
        if rows is not None and (np.ndim(rows) != 2 or 0 in rows.shape or rows.dtype.kind not in "fiub"):
            raise UserError(
                f"{path} has {split}_features of shape {list(np.shape(rows))} and kind {rows.dtype}; they have to be "
                "numbers [rows, columns], neither empty."
            )
        if labels is not None and np.ndim(labels) not in (1, 2):
            raise UserError(f"{path} has {split}_labels of shape {list(np.shape(labels))}; they have to be [rows].")
        if rows is not None and labels is not None and len(rows) != len(labels):
            raise UserError(f"{path} has {len(rows)} {split}_features and {len(labels)} {split}_labels; one per row.")
    if not read_names(str(path), arrays):
        arrays.pop("classes", None)  # none, or something else of that name
    validation = arrays.get("val_features")
    left = f"{len(validation):,} rows of val_features are left out" if validation is not None else None
    return Embedding(str(path), path.stem, arrays, note=left)


def write_features(path: Path, embedding: Embedding) -> None:
    """Write features as an .npz that ``sslzoo knn`` reads. Raises `UserError`."""
    files.write(path, lambda file: np.savez(file, **embedding.arrays))  # type: ignore[arg-type]
