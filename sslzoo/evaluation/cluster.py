"""Clusters of images without labels: groups of features, near-duplicates and outliers, one row an image."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.neighbors import LocalOutlierFactor

from ..data.splits import Dataset
from ..data.unreadable import UnreadableRow
from ..metrics.neighbours import nearest
from ..metrics.rows import unit_rows
from ..metrics.task import Floats, Ints
from ..tools import files
from ..tools.errors import UserError
from ..tools.records import Record
from .drawn import gallery
from .embedding import Embedding
from .given.writing import SPLITS, tables
from .sources import EmbedOptions, embed

FEWEST, MOST, SHARE = 5, 20, 50  # neighbours by which rows are outliers: one in so many, scikit-learn's 20 at most
MOST_WITHOUT_K = 50_000  # rows that HDBSCAN is given, which compares all of them
SMALLEST = 5  # rows of a cluster that HDBSCAN finds
SHOWN = 8  # images of a cluster in a montage
NOISE = -1


@dataclass(frozen=True)
class Grouping:
    """Says how rows are grouped: into ``k`` clusters by k-means, or by HDBSCAN into as many as there are.

    Rows at a cosine similarity of ``near`` or more are near-duplicates; ``seed`` draws the first centres.
    """

    k: int | None = None
    near: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise UserError(f"--k cannot be {self.k}; it is at least 1.")
        if not -1 <= self.near <= 1:
            raise UserError(f"--near cannot be {self.near:g}; it is a cosine similarity, at most 1.")


@dataclass(frozen=True)
class ClusterRow(Record):
    """Describes a cluster: its number, how many images it has, the most central ones, and the labels of its images."""

    cluster: int
    images: int
    central: Sequence[str]
    labels: dict[str, int]


@dataclass(frozen=True)
class ClusterResult(Record):
    """Is what ``sslzoo cluster --json`` prints; ``duplicates`` are groups of near-duplicates, ``noise`` is of none."""

    source: str
    data: str
    method: str
    images: int
    noise: int
    clusters: Sequence[ClusterRow]
    duplicates: Sequence[Sequence[str]]
    outliers: Sequence[str]
    out: str
    montage: str | None
    bad: Sequence[UnreadableRow]


@dataclass(frozen=True)
class Clustered:
    """Holds what is known of rows [N]: cluster, similarity to its centre, nearest row and how similar that is.

    ``group`` numbers near-duplicates, -1 of a row without; ``factor`` is the local outlier factor (Breunig et al.
    2000), about 1 for a row amid others, and ``outlier`` says which rows scikit-learn takes for outliers.
    """

    cluster: Ints
    central: Floats
    nearest: Ints
    similarity: Floats
    group: Ints
    factor: Floats
    outlier: npt.NDArray[np.bool_]


def cluster(source: str, options: EmbedOptions, how: Grouping, out: Path, montage: Path | None = None) -> ClusterResult:
    """Group the images of a data set by the features of a source, and write a row for each. Raises `UserError`."""
    files.check_out(out, ".csv")
    if montage is not None:
        files.check_out(montage, ".png", "--montage")
    embedding = embed(source, options, every=True)
    if montage is not None and embedding.images is None:
        raise UserError(f"{source} holds features alone, and a montage shows images; name a run or a model.")
    parts = (embedding.arrays.get(f"{split}_features") for split in SPLITS)
    rows = np.concatenate([part for part in parts if part is not None])
    found = grouped(unit_rows(source, rows), how)
    names, splits, labels = described(embedding)
    files.write(out, table(names, splits, labels, found))
    ordered = [central_first(found, number) for number in np.unique(found.cluster[found.cluster != NOISE])]
    if montage is not None:
        assert embedding.images is not None
        files.write(montage, gallery.png([*tiles(embedding.images, ordered, labels)]))
    duplicates = [names[found.group == number].tolist() for number in range(found.group.max() + 1)]
    return ClusterResult(
        source=embedding.source, data=embedding.data, method=named(how), images=len(names),
        noise=int((found.cluster == NOISE).sum()),
        clusters=[
            ClusterRow(i, len(own), names[own[:3]].tolist(), counts(labels[own])) for i, own in enumerate(ordered)
        ],
        duplicates=duplicates, outliers=names[np.argsort(-found.factor, kind="stable")[: found.outlier.sum()]].tolist(),
        out=str(out), montage=None if montage is None else str(montage),
        bad=embedding.images.unreadable.rows() if embedding.images is not None else (),
    )  # fmt: skip


def counts(labels: npt.NDArray[Any]) -> dict[str, int]:
    """Return how often each label is there, the most frequent first; an empty one is none."""
    return dict(Counter(label for label in labels.tolist() if label).most_common())


def named(how: Grouping) -> str:
    """Return in words how rows are grouped."""
    return "HDBSCAN" if how.k is None else f"k-means, k = {how.k}, seed {how.seed}"


def grouped(rows: Floats, how: Grouping) -> Clustered:
    """Return what is known of rows [N, D] of length 1. Raises `UserError` for too few, or too many to compare all."""
    if len(rows) < 2:
        raise UserError("One image is no set to group; give two or more.")
    if how.k is None and len(rows) > MOST_WITHOUT_K:
        raise UserError(f"{len(rows):,} images are too many to find their number of clusters; say it with --k.")
    if how.k is not None and how.k > len(rows):
        raise UserError(f"--k {how.k} is more than the {len(rows)} images; give a smaller one.")
    labels = numbered(
        HDBSCAN(min_cluster_size=min(SMALLEST, len(rows)), copy=True).fit_predict(rows) if how.k is None
        else KMeans(how.k, n_init=10, random_state=how.seed).fit_predict(rows)
    )  # fmt: skip
    centres = np.stack([rows[labels == i].mean(axis=0) for i in range(labels.max() + 1)] or [rows.mean(axis=0)])
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    central = np.einsum("nd,nd->n", rows, centres[np.maximum(labels, 0)]).astype(np.float32)
    k = min(max(FEWEST, min(MOST, len(rows) // SHARE)), len(rows) - 1)
    similar, near = nearest(rows, rows, k, excluded=np.arange(len(rows)))
    factor = LocalOutlierFactor(n_neighbors=k)
    outlier = factor.fit_predict(rows) < 0
    return Clustered(
        labels, central, near[:, 0], similar[:, 0], groups(similar, near, how.near),
        (-factor.negative_outlier_factor_).astype(np.float32), outlier,
    )  # fmt: skip


def numbered(labels: npt.NDArray[Any]) -> Ints:
    """Return clusters numbered from the largest on; noise stays -1."""
    sizes = Counter(labels[labels != NOISE].tolist())
    place = {label: i for i, (label, _) in enumerate(sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0])))}
    return np.array([place.get(label, NOISE) for label in labels.tolist()], np.int64)


def groups(similar: Floats, near: Ints, least: float) -> Ints:
    """Return the number of each row's group of near-duplicates, joined over pairs; -1 of a row without any."""
    parent = np.arange(len(near))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for i, column in np.argwhere(similar >= least):
        a, b = sorted((root(int(i)), root(int(near[i, column]))))
        parent[b] = a
    roots = np.array([root(i) for i in range(len(parent))])
    often = np.bincount(roots, minlength=len(roots))[roots] > 1
    found = np.full(len(roots), NOISE, np.int64)
    found[often] = np.unique(roots[often], return_inverse=True)[1]
    return found


def central_first(found: Clustered, number: int) -> Ints:
    """Return the rows of a cluster, those that are most like its centre first."""
    own = np.flatnonzero(found.cluster == number)
    return own[np.argsort(-found.central[own], kind="stable")]


def described(embedding: Embedding) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return names, splits and labels of the rows, as texts [N]."""
    names, splits, labels = [], [], []
    for split, one in tables(embedding).items():
        for file, words, place in zip(one.files, one.labels, one.places, strict=True):
            if place >= 0:
                names.append(file)
                splits.append(split)
                labels.append(" ".join(words) if len(words) > 1 else words[0])
    return np.array(names), np.array(splits), np.array(labels)


def table(names: npt.NDArray[Any], splits: npt.NDArray[Any], labels: npt.NDArray[Any], found: Clustered) -> bytes:
    """Return a CSV with a row for each image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ("file", "split", "label", "cluster", "similarity", "nearest", "nearest_similarity", "duplicates")
    writer.writerow([*heads, "outlier_factor", "outlier"])
    for i, name in enumerate(names):
        near = [names[found.nearest[i]], f"{found.similarity[i]:.6f}", "" if found.group[i] < 0 else found.group[i]]
        own = "" if found.cluster[i] == NOISE else found.cluster[i]
        factor = [f"{found.factor[i]:.4f}", found.outlier[i]]
        writer.writerow([name, splits[i], labels[i], own, f"{found.central[i]:.6f}", *near, *factor])
    return text.getvalue().encode()


def tiles(data: Dataset, ordered: Sequence[Ints], labels: npt.NDArray[Any]) -> list[tuple[str, list[gallery.Tile]]]:
    """Return for each cluster its heading and its most central images."""
    parts = [data.bank, *(one for one in (data.val, data.test) if one is not None)]
    ends = np.cumsum([len(part) for part in parts])
    rows = []
    for number, own in enumerate(ordered):
        shown = []
        for i in own[:SHOWN].tolist():
            part = int(np.searchsorted(ends, i, side="right"))
            place = i - (int(ends[part - 1]) if part else 0)
            shown.append(gallery.Tile(gallery.pictures(parts[part], [place], data.size)[0], str(labels[i])))
        rows.append((f"cluster {number}: {len(own):,} images", shown))
    return rows or [("no cluster", [])]
