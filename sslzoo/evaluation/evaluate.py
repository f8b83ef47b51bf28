"""A benchmark of embeddings: kNN by protocol, retrieval, intervals, health and indexes, one row a source."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..data.splits import leak, leaked
from ..metrics import health, ranking
from ..metrics.knn import RECALL_AT, Judged
from ..metrics.neighbours import nearest
from ..metrics.precise import unit
from ..metrics.probe import linear_probe
from ..metrics.task import Doubles, Neighbours, Task
from ..tools.labels import asking, foreign, known, read_labels
from .embedding import Embedding
from .indexes import COMPARED, compare
from .protocols import Protocol, judge_by
from .results import BenchmarkRow, Deviation, Health, Interval, ProtocolScores, Retrieval, SeedGroup
from .tasks import make_task, splits_of

DRAWS = 1000  # of the bootstrap
AFFORDED = 100_000_000  # similarities that retrieval sorts where it is not to sort all
HEALTH_ROWS = 512  # of a seeded sample; the rank can be no larger


@dataclass(frozen=True)
class Evaluation:
    """Says what is measured of an embedding.

    ``protocols`` are those of kNN, the first of which ranks the sources. With ``leave_one_out`` the test split is its
    own bank, each query without its own row. ``retrieval`` is "auto" (a seeded sample of the queries where all would
    take long), "all" or "none". ``indexes`` are faiss' factory strings, kept in ``index_dir`` if there is one.
    ``probe`` asks for the linear probe, and ``seed`` is that of all that is drawn.
    """

    protocols: Sequence[Protocol]
    leave_one_out: bool = False
    retrieval: str = "auto"
    indexes: Sequence[str] = ()
    index_dir: Path | None = None
    probe: bool = False
    seed: int = 0


def evaluate(embedding: Embedding, wanted: Evaluation) -> BenchmarkRow:
    """Return the row of a source. Raises `UserError` where its features or labels do not do."""
    numbers = health_of(embedding)
    task = make_task(embedding, wanted.leave_one_out)
    neighbours, leaks = search_once(task, wanted.protocols), leaks_of(embedding, task)
    protocols: dict[str, ProtocolScores] = {}
    values: dict[str, Doubles] = {}
    for protocol in wanted.protocols:
        judged = judge_by(protocol, task, neighbours, RECALL_AT)
        protocols[protocol.name] = scores_of(task, protocol, judged)
        values |= {f"{protocol.name} k{k}": earned for k, earned in judged.top1.items()}
    retrieval = None
    if wanted.retrieval != "none":
        retrieval, each = retrieve(task, wanted.retrieval, wanted.seed)
        values |= {f"retrieval {name}": array for name, array in each.items()}
    return BenchmarkRow(
        source=embedding.source,
        dimension=embedding.features.shape[1],
        health=numbers,
        bank=len(task.bank),
        queries=len(task.queries),
        leaked=leaks,
        leave_one_out=task.excluded is not None,
        labels=task.bank_labels.shape[1] if task.multi_label else None,
        knn=protocols[wanted.protocols[0].name].knn,
        recall={f"r{k}": float(earned.mean()) for k, earned in judged.recall.items()},
        protocols=protocols,
        retrieval=retrieval,
        interval=intervals(values, wanted.seed),
        indexes=compare(task, wanted.protocols[0], wanted.indexes, wanted.index_dir, neighbours),
        probe=linear_probe(task, wanted.seed) if wanted.probe and not task.multi_label else None,
        seed=embedding.seed,
        group=embedding.group,
        classes=embedding.names or None,
        note=" ".join(notes(embedding, task, wanted, leaks)) or None,
    )


def leaks_of(embedding: Embedding, task: Task) -> int | None:
    """Return how many test images are in the training split too; of features alone, `equal_rows`.

    It is None where a set is its own bank.
    """
    if task.excluded is not None:
        return None
    return equal_rows(task) if embedding.images is None else leaked(embedding.images)


def equal_rows(task: Task) -> int:
    """Return how many queries equal, bit by bit, rows of the bank that all have the same labels.

    Rows that images of several classes share, or all, come of a collapsed encoder: these are not counted.
    """
    bank, queries = task.whole_rows
    if bank.dtype != queries.dtype:
        return 0
    labels = defaultdict[bytes, set[bytes]](set)
    alike = np.flatnonzero(np.isin(bank[:, 0], queries[:, 0]))  # few, and only these are hashed
    for i in alike:
        labels[hashlib.sha1(bank[i].tobytes()).digest()].add(task.bank_labels[i].tobytes())
    if len(labels) == 1 < len(alike) == len(bank):
        return 0
    rows = {row for row, of_row in labels.items() if len(of_row) == 1}
    return sum(hashlib.sha1(row.tobytes()).digest() in rows for row in queries) if rows else 0


def notes(embedding: Embedding, task: Task, wanted: Evaluation, leaks: int | None) -> Iterator[str]:
    """Yield sentences on what makes a source's numbers mean less than they seem to, and on what is left out."""
    if embedding.images is not None and (sentence := leak(leaks or 0, embedding.images)):
        yield sentence
    elif leaks:
        equal = "1 query equals a row" if leaks == 1 else f"{leaks:,} of {len(task.queries):,} queries equal rows"
        yield f"{equal} of the bank bit by bit: if they are of the same images, kNN is too high by that."
    if sentence := foreign(task.bank_labels, task.query_labels):
        yield sentence
    bank, queries = splits_of(embedding, wanted.leave_one_out)
    unknown = int((~known(read_labels(bank, embedding.arrays[f"{bank}_labels"]))).sum())
    silent = int((~asking(read_labels(queries, embedding.arrays[f"{queries}_labels"]))).sum())
    if unknown:
        yield f"{unknown:,} rows of {bank}_features have no label and are not in the bank."
    if silent:
        yield f"{silent:,} rows of {queries}_features have no label and are no queries."
    if wanted.probe and task.multi_label:
        yield "There is no linear probe of rows with several labels."


def search_once(task: Task, protocols: Sequence[Protocol]) -> Neighbours:
    """Return the exact neighbours that all protocols and indexes share."""
    largest = max(COMPARED, *RECALL_AT, *(k for protocol in protocols for k in protocol.k))
    return nearest(task.bank, task.queries, largest, task.excluded, task.search)


def scores_of(task: Task, protocol: Protocol, judged: Judged) -> ProtocolScores:
    """Return what a protocol comes to, from what each query earns by it."""
    if task.multi_label:  # a query counts for each of its labels
        query, code = np.nonzero(task.query_labels)
        classes, code = np.unique(code, return_inverse=True)
    else:
        query, (classes, code) = np.arange(len(task.queries)), np.unique(task.query_labels, return_inverse=True)
    many = not task.multi_label and len(np.unique(np.concatenate([task.bank_labels, task.query_labels]))) > 5
    sizes = np.bincount(code)
    per_class = {k: np.bincount(code, earned[query]) / sizes for k, earned in judged.top1.items()}
    return ProtocolScores(
        summary=protocol.summary,
        knn={f"k{k}": float(earned.mean()) for k, earned in judged.top1.items()},
        balanced={f"k{k}": float(each.mean()) for k, each in per_class.items()},
        top5={f"k{k}": float(earned.mean()) for k, earned in judged.top5.items()} if many else None,
        per_class={
            f"k{k}": dict(zip(map(str, classes), map(float, each), strict=True)) for k, each in per_class.items()
        },
    )


def retrieve(task: Task, how: str, seed: int) -> tuple[Retrieval, dict[str, Doubles]]:
    """Return retrieval over the queries, and each metric of each query, nan for one without a positive.

    The queries are a seeded sample unless ``how`` is "all", where all would take long.
    """
    afforded = len(task.queries) if how == "all" else max(1, AFFORDED // len(task.bank))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(task.queries))[:afforded])
    largest = ranking.most_positives(task)
    excluded = None if task.excluded is None else task.excluded[chosen]
    bank, queries = task.whole_rows
    sample = replace(
        task, queries=task.queries[chosen], query_labels=task.query_labels[chosen], excluded=excluded,
        given=(bank, queries[chosen]),
    )  # fmt: skip
    values = ranking.retrieval(sample, RECALL_AT, largest)
    with_positive = ~np.isnan(values["map"])
    means = {
        name: float(array[with_positive].mean()) if with_positive.any() else None for name, array in values.items()
    }
    return Retrieval(metrics=means, queries=len(chosen), without_positive=int((~with_positive).sum())), values


def intervals(values: Mapping[str, Doubles], seed: int) -> dict[str, Interval | None]:
    """Return 95% bootstrap intervals of means over the queries, by name; None where no query has a value.

    The queries are drawn anew with Poisson counts, and nan are left out.
    """
    ends: dict[str, Interval | None] = {}
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
            ends[name] = None
            if len(column):
                low, high = np.quantile(column, (0.025, 0.975))
                ends[name] = (float(low), float(high))
    return ends


def health_of(embedding: Embedding) -> Health:
    """Return label-free numbers of a seeded sample of the first split's features."""
    rows = embedding.features
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:HEALTH_ROWS])
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.asarray(rows[chosen], np.float32)
        if not np.isfinite(narrow).all():  # or what float32 alone cannot hold
            narrow = unit(rows[chosen]).astype(np.float32)
    sample = torch.from_numpy(narrow)
    if not bool(sample.isfinite().all()) or len(sample) < 2:
        return Health()
    return Health(health.std(sample), health.rank(sample), health.uniformity(sample))


def group_by_seed(rows: Sequence[BenchmarkRow]) -> list[SeedGroup]:
    """Return mean and sample deviation of runs that differ by their seed alone; one run a seed counts, the last."""
    groups: dict[str, dict[int | None, BenchmarkRow]] = {}
    for row in rows:
        if row.group is not None:
            groups.setdefault(row.group, {})[row.seed] = row
    return [_group([*by_seed.values()]) for by_seed in groups.values() if len(by_seed) > 1]


def _group(rows: Sequence[BenchmarkRow]) -> SeedGroup:
    tables = [row.knn for row in rows]
    scores = {k: [table[k] for table in tables] for k in tables[0]}
    knn = {k: Deviation(float(np.mean(x)), float(np.std(x, ddof=1))) for k, x in scores.items()}
    return SeedGroup([row.source for row in rows], [row.seed for row in rows], knn)
