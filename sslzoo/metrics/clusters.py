"""Clusters of rows by where they point: spherical k-means, or HDBSCAN where nobody says how many there are."""

from dataclasses import dataclass

import numpy as np
import torch

from ..core.clustering import spherical_kmeans
from ..tools.errors import UserError
from .precise import unit
from .task import Doubles, Floats, Ints

STARTS = 4  # of k-means, of which the best counts
ITERATIONS, ROUNDS = 10, 20  # k-means' steps until its clusters are looked at, and how often they are
COLUMNS = 20  # that HDBSCAN sees: among more, all distances are alike, and it takes minutes
NOISE = -1  # the cluster of a row of none
MOST_ROWS = 50_000  # that HDBSCAN takes, whose time grows with their square


@dataclass(frozen=True)
class Clusters:
    """Holds the cluster of each row [N], numbered from 0, the largest first, and -1 for a row of none.

    ``similarity`` [N] is each row's cosine to the centre of its cluster, the normalised mean of its rows; nan for none.
    """

    of_rows: Ints
    similarity: Doubles

    @property
    def number(self) -> int:
        """Return how many clusters there are."""
        return int(self.of_rows.max(initial=-1)) + 1

    def members(self, cluster: int) -> Ints:
        """Return the rows of a cluster, the nearest to its centre first."""
        rows = np.flatnonzero(self.of_rows == cluster)
        return rows[np.argsort(-self.similarity[rows], kind="stable")]


def kmeans(rows: Floats, k: int, seed: int) -> Clusters:
    """Return k clusters of rows [N, D] of length 1, fewer where there are no more different rows.

    Starts are drawn as k-means++ does. Raises `UserError` for a k that cannot be.
    """
    from sklearn.cluster import kmeans_plusplus

    if k > len(rows):
        raise UserError(f"--k {k} is more than the {len(rows)} images; give a smaller one.")
    random = np.random.RandomState(seed)
    best, highest = np.zeros(len(rows), np.int64), -np.inf
    there = torch.from_numpy(np.ascontiguousarray(rows))
    for _ in range(STARTS):
        drawn, _ = kmeans_plusplus(rows, k, random_state=random)
        centres = torch.from_numpy(drawn.astype(np.float32))
        near: torch.Tensor | None = None
        for _ in range(ROUNDS):
            before = near
            centres, near = spherical_kmeans(there, centres, ITERATIONS)
            if before is not None and torch.equal(near, before):
                break
        assert near is not None
        found = numbered(rows, near.numpy())
        total = float(found.similarity.sum())
        if total > highest:
            best, highest = found.of_rows, total
    return numbered(rows, best)


def hdbscan(rows: Floats, smallest: int) -> Clusters:
    """Return the clusters of rows [N, D] of length 1 that HDBSCAN finds, each of at least ``smallest`` rows.

    Of more than `COLUMNS` columns it sees the principal components. Raises `UserError` for too many rows.
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    if len(rows) > MOST_ROWS:
        raise UserError(f"{len(rows):,} images are too many to find their number of clusters; say it with --k.")
    seen = rows.astype(np.float64)
    if min(seen.shape) > COLUMNS and np.ptp(seen, axis=0).any():
        seen = PCA(COLUMNS, svd_solver="randomized", random_state=0).fit_transform(seen)
    return numbered(rows, HDBSCAN(min_cluster_size=min(smallest, len(rows)), copy=True).fit_predict(seen))


def numbered(rows: Floats, given: Ints) -> Clusters:
    """Return clusters numbered by their size, the largest first, and of equal ones that with the first row."""
    names, first, sizes = np.unique(given[given >= 0], return_index=True, return_counts=True)
    place = np.full(int(given.max(initial=0)) + 1, -1, np.int64)
    place[names[np.lexsort((first, -sizes))]] = np.arange(len(names))
    of_rows = np.where(given >= 0, place[np.maximum(given, 0)], -1)
    similarity = np.full(len(rows), np.nan)
    for cluster in range(len(names)):
        mine = np.flatnonzero(of_rows == cluster)
        x = rows[mine].astype(np.float64)
        similarity[mine] = x @ unit(x.mean(axis=0)[None])[0]
    return Clusters(of_rows, similarity)
