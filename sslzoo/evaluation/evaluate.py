"""A benchmark of embeddings: kNN by protocol, retrieval, intervals, health and indexes, one row a source."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..metrics import health, probe, ranking
from ..metrics.index import Exact, Index
from ..metrics.knn import RECALL_AT, TEMPERATURE, TIE, Floats, Ints, Judged, Search, check, judge, nearest, unit_rows
from ..tools.bounds import whole_numbers
from ..tools.errors import UserError
from .protocols import Protocol
from .sources import Embedding

DRAWS = 1000  # of the bootstrap
AFFORDED = 100_000_000  # similarities that retrieval sorts unless it is asked for all
HEALTH_ROWS = 512  # of a seeded sample; the rank can be no larger
COMPARED = 10  # neighbours by which an index is compared with the exact search

Row = dict[str, Any]
Neighbours = tuple[Floats, Ints]  # similarities and rows [Q, k], largest first
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A bank and queries with labels, rows of length 1, and the exact search in them.

    ``own`` is each query's own row where a set is its own bank.
    """

    bank: Floats
    labels: ranking.Labels
    queries: Floats
    truth: ranking.Labels
    own: Ints | None
    search: Search

    @staticmethod
    def of(embedding: Embedding, leave_one_out: bool) -> "Task":
        """That of an embedding; left one out, of its test split, or of its only one. Raises `UserError`."""
        arrays = embedding.arrays
        alone = leave_one_out or "test_features" not in arrays
        used = ("test" if "test_features" in arrays else "train",) * 2 if alone else ("train", "test")
        missing = [f"{split}_labels" for split in dict.fromkeys(used) if f"{split}_labels" not in arrays]
        if missing:
            raise UserError(
                f"{embedding.source} lacks {', '.join(missing)}, so there is no kNN and no retrieval; give "
                + ("one label per row." if embedding.images is None else "data with labels, one per image.")
            )
        rows = [
            unit_rows(f"{embedding.source}: {split}_features", arrays[f"{split}_features"])
            for split in used[: 2 - alone]
        ]
        labels = [read_labels(f"{embedding.source}: {split}_labels", arrays[f"{split}_labels"]) for split in used]
        bank, queries = rows[0], rows[-1]
        check(bank, labels[0], queries, labels[1])
        if labels[0].shape[1:] != labels[1].shape[1:]:
            raise UserError(f"{embedding.source} has other labels in its two splits; give both the same columns.")
        if alone and len(bank) < 2:
            raise UserError(f"{embedding.source} has one row, and leaving it out leaves none; give more.")
        own = np.arange(len(bank)) if alone else None
        return Task(bank, labels[0], queries, labels[1], own, Exact(embedding.device))


def read_labels(name: str, labels: npt.NDArray[Any]) -> ranking.Labels:
    """Whole numbers [N], or [N, C] true where a row has a label. Raises `UserError`."""
    x = np.asarray(labels)
    if x.ndim == 2 and x.shape[1] > 1:
        if not np.isin(x, (0, 1)).all():
            raise UserError(f"{name} has {x.shape[1]} columns, so they have to be 0 or 1; or number the classes.")
        return x.astype(bool)
    return whole_numbers(name, x)


def evaluate(
    embedding: Embedding,
    protocols: Sequence[Protocol],
    leave_one_out: bool = False,
    retrieval: str = "auto",
    indexes: Sequence[str] = (),
    probed: bool = False,
    seed: int = 0,
    index_dir: Path | None = None,
) -> Row:
    """The row of a source. Raises `UserError` where its features or labels do not do."""
    row: Row = {"source": embedding.source, "dimension": embedding.features.shape[1], "health": look_over(embedding)}
    task = Task.of(embedding, leave_one_out)
    row |= {"bank": len(task.bank), "queries": len(task.queries), "leave_one_out": task.own is not None}
    several = task.labels.ndim == 2
    row["knn"] = row["recall"] = None
    values: dict[str, Doubles] = {}
    found = None if several and not indexes else once(task, protocols)
    if not several:
        for protocol in protocols:
            judged = _judged(task, protocol, found, RECALL_AT)
            scores, per_query = accuracies(task, protocol, judged)
            row.setdefault("protocols", {})[protocol.name] = scores
            values |= {f"{protocol.name} {name}": array for name, array in per_query.items()}
        main = row["protocols"][protocols[0].name]
        row |= {"knn": main["knn"], "recall": {f"r{k}": float(x.mean()) for k, x in judged.found.items()}}
    if retrieval != "none":
        row["retrieval"], more = retrieve(task, retrieval, seed)
        values |= {f"retrieval {name}": array for name, array in more.items()}
    row["interval"] = intervals(values, seed)
    row["indexes"] = compare(task, protocols[0], indexes, index_dir, found)
    row["probe"] = (
        probe.accuracy(task.bank, task.labels, task.queries, task.truth, seed) if probed and not several else None
    )
    return {**row, "seed": embedding.seed, "group": embedding.group}


def once(task: Task, protocols: Sequence[Protocol]) -> Neighbours:
    """The exact search that all protocols and indexes share."""
    most = max(COMPARED, *RECALL_AT, *(k for protocol in protocols for k in protocol.k))
    return nearest(task.bank, task.queries, most, task.own, task.search)


def _judged(
    task: Task, protocol: Protocol, found: Neighbours | None, recall_at: Sequence[int] = (), exact: bool = True
) -> Judged:
    labels, truth = (np.asarray(x, np.int64) for x in (task.labels, task.truth))
    weights = (protocol.temperature or TEMPERATURE, recall_at, protocol.weights)
    return judge(task.bank, labels, task.queries, truth, protocol.k, *weights, task.own, found, exact)


def accuracies(task: Task, protocol: Protocol, judged: Judged) -> tuple[Row, dict[str, Doubles]]:
    """What a protocol comes to: accuracy, by class and balanced, and top-5 where there are more classes than five."""
    classes, code = np.unique(task.truth, return_inverse=True)
    many = len(np.unique(np.concatenate([task.labels, task.truth]))) > 5
    sizes = np.bincount(code)
    each = {k: np.bincount(code, right) / sizes for k, right in judged.right.items()}
    row: Row = {
        "said": protocol.said(),
        "knn": {f"k{k}": float(right.mean()) for k, right in judged.right.items()},
        "balanced": {f"k{k}": float(found.mean()) for k, found in each.items()},
        "top5": {f"k{k}": float(found.mean()) for k, found in judged.top5.items()} if many else None,
        "per_class": {
            f"k{k}": dict(zip(map(str, classes), map(float, found), strict=True)) for k, found in each.items()
        },
    }
    return row, {f"k{k}": right for k, right in judged.right.items()}


def retrieve(task: Task, how: str, seed: int) -> tuple[Row, dict[str, Doubles]]:
    """Retrieval over the queries, or over a seeded sample of them where all would take long; those without a positive
    are left out, and counted."""
    afforded = len(task.queries) if how == "all" else max(1, AFFORDED // len(task.bank))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(task.queries))[:afforded])
    own = None if task.own is None else task.own[chosen]
    largest = ranking.most_positives(task.labels, task.truth, task.own)
    asked = (task.queries[chosen], task.truth[chosen])
    values = ranking.retrieval(task.bank, task.labels, *asked, RECALL_AT, own, largest)
    with_positive = ~np.isnan(values["map"])
    means = {
        name: float(array[with_positive].mean()) if with_positive.any() else None for name, array in values.items()
    }
    counts = {"queries": len(chosen), "without_positive": int((~with_positive).sum())}
    return {**means, **counts}, values


def intervals(values: Mapping[str, Doubles], seed: int) -> dict[str, list[float] | None]:
    """95% bootstrap intervals of means over the queries, which are drawn anew with Poisson counts; nan are left out."""
    found: dict[str, list[float] | None] = {}
    by_length: dict[int, list[str]] = {}
    for name, array in values.items():
        by_length.setdefault(len(array), []).append(name)
    for length, names in by_length.items():
        table = np.stack([values[name] for name in names], axis=1)
        there = ~np.isnan(table)
        filled, rng, means = np.where(there, table, 0.0), np.random.default_rng(seed), []
        for _ in range(0, DRAWS, 50):
            counts = rng.poisson(1.0, (50, length)).astype(np.float64)
            with np.errstate(invalid="ignore"):
                means.append((counts @ filled) / (counts @ there))
        drawn = np.concatenate(means)
        for i, name in enumerate(names):
            column = drawn[:, i][~np.isnan(drawn[:, i])]
            found[name] = [float(x) for x in np.quantile(column, (0.025, 0.975))] if len(column) else None
    return found


def look_over(embedding: Embedding) -> dict[str, float]:
    """Label-free numbers of a seeded sample of the first split's features: std, rank, uniformity."""
    rows = embedding.features
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:HEALTH_ROWS])
    with np.errstate(over="ignore"):
        some = torch.from_numpy(np.asarray(rows[chosen], np.float32))
    if not bool(some.isfinite().all()) or len(some) < 2:
        return {}
    return {"std": health.std(some), "rank": health.rank(some), "uniformity": health.uniformity(some)}


def compare(
    task: Task,
    protocol: Protocol,
    specs: Sequence[str],
    folder: Path | None = None,
    found: Neighbours | None = None,
) -> list[Row]:
    """Indexes beside the exact search: recall of its neighbours, kNN, queries a second, memory, time to build.

    In a folder they are kept, inverted lists as files of their own, and found again for the same rows.
    """
    if not specs:
        return []
    top, rows = min(COMPARED, len(task.bank) - (task.own is not None)), []
    last = (once(task, [protocol]) if found is None else found)[0][:, top - 1 : top]  # of the exact ones
    for spec in specs:
        made, built = index_of(task.bank, spec, folder)

        def asked(_: Floats, queries: Floats, k: int, made: Index = made) -> Neighbours:
            return made.search(queries, k)

        begun = time.perf_counter()
        similar, near = nearest(task.bank, task.queries, max(*protocol.k, COMPARED), task.own, asked)
        took = time.perf_counter() - begun
        shared = int((similarities(task, near[:, :top]) >= last - TIE).sum())
        row: Row = {
            "index": spec, f"recall@{COMPARED}": shared / (top * len(near)),
            "queries_per_second": len(task.queries) / took, "build_seconds": built, "bytes": made.bytes,
        }  # fmt: skip
        if task.labels.ndim == 1:
            there = (np.where(near < 0, -2, similar).astype(np.float32), near)  # places left empty come last
            judged = _judged(task, protocol, there, exact=False)
            row["knn"] = {f"k{k}": float(right.mean()) for k, right in judged.right.items()}
        rows.append(row)
    return rows


def similarities(task: Task, near: Ints) -> Doubles:
    """The true similarities [Q, k] of neighbours, whatever an index holds of their rows; -2 at places left empty."""
    found = np.empty(near.shape)
    for start in range(0, len(near), 256):
        part = slice(start, start + 256)
        found[part] = np.einsum("qd,qkd->qk", task.queries[part], task.bank[near[part]])
    return np.where(near < 0, -2, found)


def index_of(bank: Floats, spec: str, folder: Path | None) -> tuple[Index, float]:
    """An index of the rows, and the seconds that it took to build; 0 where it was found in the folder."""
    if folder is None:
        made = Index(spec, bank.shape[1])
        return made, made.build(bank)
    factory = spec.partition(":")[0]  # what is behind the colon is about searching
    digest = hashlib.blake2b(f"{factory} {bank.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(bank).data)
    name = digest.hexdigest()
    path = folder / f"{name}.faiss"
    if path.is_file():
        return Index.load(path, spec), 0.0
    made = Index(spec, bank.shape[1])
    built = made.build(bank, folder / f"{name}.lists")
    made.save(path)
    return made, built


def seeds_together(rows: Sequence[Row]) -> list[Row]:
    """Mean and sample deviation of runs that differ by their seed alone."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row["group"] is not None and row["knn"] is not None:
            groups.setdefault(row["group"], []).append(row)
    found = []
    for same in groups.values():
        same = list({row["seed"]: row for row in same}.values())
        if len(same) > 1:
            scores = {k: [row["knn"][k] for row in same] for k in same[0]["knn"]}
            summary = {k: {"mean": float(np.mean(x)), "sd": float(np.std(x, ddof=1))} for k, x in scores.items()}
            found.append({"sources": [r["source"] for r in same], "seeds": [r["seed"] for r in same], "knn": summary})
    return found
