"""Clusters of images without labels: groups of features, near-duplicates and outliers, one row an image."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.unreadable import UnreadableRow
from ..metrics import alike, index
from ..metrics.clusters import COLUMNS, NOISE, Clusters, hdbscan, kmeans
from ..metrics.rows import matrix, unit_rows
from ..metrics.task import Doubles, Ints, Rows, Search
from ..tools import files
from ..tools.errors import UserError
from ..tools.records import Record
from .drawn.montage import Strip, montage
from .embedding import Embedding
from .encode import embed_alone
from .grouped import SUFFIXES, labels_of, names_of, table, write
from .sources import EmbedOptions, files_among
from .written.writing import SPLITS, check_out

SMALLEST = 5  # rows of a cluster that HDBSCAN finds
OUTLYING = 1.5  # the local outlier factor from which scikit-learn takes a row for an outlier
NAMED = 3  # of what lies farthest off
SHOWN, STRIPS, GROUPS = 8, 20, 8  # of a montage: images in a strip, clusters, and groups of near-duplicates
MANY = 0.5  # a share of images, from which it is said that the features tell few apart, or that few are in a cluster


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
    """Is what ``sslzoo cluster --json`` prints; ``duplicates`` are groups of near-duplicates, ``noise`` is of none.

    ``outliers`` have a local outlier factor above 1.5, and ``farthest`` the highest ones, outliers or not. ``note``
    says what makes it mean less than it seems to, left out where nothing does.
    """

    source: str
    data: str
    method: str
    images: int
    noise: int
    clusters: Sequence[ClusterRow]
    duplicates: Sequence[Sequence[str]]
    outliers: Sequence[str]
    farthest: Sequence[str]
    out: str
    montage: str | None
    bad: Sequence[UnreadableRow]
    note: str | None = field(default=None, metadata={"optional": True})
    about: str | None = field(default=None, metadata={"optional": True})


@dataclass(frozen=True)
class Clustered:
    """Holds what is known of rows [N]: clusters, the nearest other row, and its cosine in float64.

    ``first`` is the first of each row's near-duplicates, itself where it has none. ``factor`` is the local outlier
    factor (Breunig et al. 2000), about 1 for a row amid others.
    """

    clusters: Clusters
    nearest: Ints
    similarity: Doubles
    first: Ints
    factor: Doubles

    @property
    def group(self) -> Ints:
        """Return the number of each row's group of near-duplicates [N], -1 of a row without."""
        often = np.bincount(self.first)[self.first] > 1
        found = np.full(len(often), -1)
        found[often] = np.unique(self.first[often], return_inverse=True)[1]
        return found

    @property
    def duplicates(self) -> list[Ints]:
        """Return the rows of each group of near-duplicates, by its number."""
        groups = self.group
        inside = np.argsort(groups, kind="stable")[np.count_nonzero(groups < 0) :]
        ends: Ints = np.cumsum(np.bincount(groups[inside]))
        return np.split(inside, ends[:-1]) if len(inside) else []

    @property
    def farthest(self) -> Ints:
        """Return all rows, those with the highest factor first."""
        return np.argsort(-self.factor, kind="stable")

    @property
    def outliers(self) -> Ints:
        """Return the rows that scikit-learn takes for outliers, the farthest first."""
        return self.farthest[: np.count_nonzero(self.factor > OUTLYING)]


def cluster(source: str, options: EmbedOptions, how: Grouping, out: Path, picture: Path | None = None) -> ClusterResult:
    """Group the images of a data set by the features of a source, and write a row for each. Raises `UserError`.

    The splits are taken together. ``out`` is a .csv or .parquet, and ``picture`` a PNG of a montage.
    """
    check_out(out, SUFFIXES)
    if picture is not None:
        files.check_out(picture, ".png", "--montage")
        if files_among([source], options):
            raise UserError(f"{source} holds features alone, and a montage shows images; name a run or a model.")
    embedding = embed_alone(source, options, every=True)
    rows = rows_of(embedding)
    done = options.progress
    found = grouped(
        rows, how, embedding.source, index.Exact(embedding.device),
        lambda n: None if done is None else done(f"{embedding.source}: neighbours", n, len(rows)),
    )  # fmt: skip
    names, ordered = names_of(embedding), [found.clusters.members(i) for i in range(found.clusters.number)]
    columns = table(embedding, names, found)
    drawn = None if picture is None else montage(embedding, strips(found, ordered, names))
    write(out, columns)
    if picture is not None and drawn is not None:
        files.write(picture, drawn)
    words = labels_of(embedding)
    return ClusterResult(
        source=embedding.source, data=embedding.data, method=named(how, rows), images=len(names),
        noise=int((found.clusters.of_rows == NOISE).sum()),
        clusters=[
            ClusterRow(i, len(own), [names[j] for j in own[:3]], counts(words[j] for j in own))
            for i, own in enumerate(ordered)
        ],
        duplicates=[[names[j] for j in group] for group in found.duplicates],
        outliers=[names[j] for j in found.outliers],
        farthest=[names[j] for j in found.farthest[:NAMED]],
        out=str(out), montage=None if picture is None else str(picture),
        bad=embedding.images.unreadable.rows() if embedding.images is not None else (),
        note="; ".join(notes(embedding, how, found, names)) or None, about=embedding.about,
    )  # fmt: skip


def rows_of(embedding: Embedding) -> Rows:
    """Return the features of all splits [N, D]. Raises `UserError` where these are not of one width."""
    keys = [f"{split}_features" for split in SPLITS if f"{split}_features" in embedding.arrays]
    parts = [matrix(f"{embedding.source}: {key}", embedding.arrays[key]) for key in keys]
    if len({part.shape[1] for part in parts}) > 1:
        widths = " and ".join(str(part.shape[1]) for part in parts)
        raise UserError(f"{embedding.source} has splits of {widths} columns; give those of one encoder.")
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def grouped(
    rows: Rows,
    how: Grouping,
    name: str = "The rows",
    search: Search | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Clustered:
    """Return what is known of rows [N, D] of any length. Raises `UserError` for too few, or too many to compare all."""
    if len(rows) < 2:
        raise UserError("One image is no set to group; give two or more.")
    narrow = unit_rows(name, rows)
    clusters = hdbscan(narrow, SMALLEST) if how.k is None else kmeans(narrow, how.k, how.seed)
    around = alike.surroundings(name, rows, search, progress)
    first = alike.linked(rows, around[0][:, 0], how.near)
    factor = alike.outlier_factors(name, rows, around, search)
    return Clustered(clusters, around[1][:, 0], around[0][:, 0], first, factor)


def named(how: Grouping, rows: Rows) -> str:
    """Return in words how rows are grouped."""
    seen = f", {COLUMNS} principal components" if min(rows.shape) > COLUMNS else ""
    return f"HDBSCAN{seen}" if how.k is None else f"spherical k-means, k = {how.k}, seed {how.seed}"


def notes(embedding: Embedding, how: Grouping, found: Clustered, names: Sequence[str]) -> list[str]:
    """Return what makes a grouping mean less than it seems to."""
    said = [embedding.note] if embedding.note else []
    if how.k is not None and found.clusters.number < how.k:
        said.append(f"there are no more than {found.clusters.number} different rows, and so many clusters")
    if how.k is None and (share := float((found.clusters.of_rows == NOISE).mean())) > MANY:
        said.append(f"{share:.0%} of the images are in no cluster; --k N gives each one")
    if (share := float((found.group >= 0).mean())) > MANY:
        said.append(
            f"{share:.0%} of the images have a near-duplicate at {how.near:g}: the features tell few apart, so take a "
            "higher --near or another source"
        )
    if twice := len(names) - len({*names}):
        said.append(f"{twice} rows have the name of another one")
    return said


def counts(labels: Iterable[Sequence[str]]) -> dict[str, int]:
    """Return how often each label is there, the most frequent first."""
    return dict(Counter(one for some in labels for one in some).most_common())


def strips(found: Clustered, ordered: Sequence[Ints], names: Sequence[str]) -> list[Strip]:
    """Return what a montage shows: the centres of the largest clusters, the outliers, and near-duplicates."""
    shown = [(f"cluster {i}: {len(own):,} images", own) for i, own in enumerate(ordered[:STRIPS])]
    shown.append((f"the farthest off, of {len(found.outliers):,} outliers", found.farthest))
    for group in sorted(found.duplicates, key=len, reverse=True)[:GROUPS]:
        shown.append((f"near-duplicates: {len(group):,} images", group))
    return [Strip(heading, own[:SHOWN], [names[i] for i in own[:SHOWN]]) for heading, own in shown]
