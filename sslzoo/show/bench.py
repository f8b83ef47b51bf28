"""Tables of kNN and retrieval, of neighbours, and of runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .plain import console, escape, line, narrow, score, table, text

if TYPE_CHECKING:
    from ..data.unreadable import UnreadableRow
    from ..evaluation.cluster import ClusterResult
    from ..evaluation.results import (
        BenchmarkResult,
        BenchmarkRow,
        Interval,
        Neighbour,
        QueryResult,
        Retrieval,
        SearchResult,
        SeedGroup,
    )
    from ..training.runs import RunRow

RETRIEVAL = {
    "recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "precision@10": "P@10", "r_precision": "R-prec",
    "map@r": "MAP@R", "map": "mAP", "map_revisited": "mAP rev.", "mrr": "MRR", "ndcg": "nDCG", "anmrr": "ANMRR",
}  # fmt: skip
HIDDEN = ("precision@1", "precision@5")  # recall@1, and what stands between
SHORT = {name: RETRIEVAL[name] for name in ("recall@1", "recall@10", "precision@10", "map@r", "map", "ndcg")}
HIT_RATE = (
    "R@k: a right row among the first k, a hit rate; of tied rows R@1 draws one by lot, where k1 lets all of them vote"
)
MOST_CLUSTERS = 20  # that are shown
RUNS = ("run", "method", "data", "epochs", "loss", "std", "rank", "kNN k20", "started")


def knn_tables(result: "BenchmarkResult") -> None:
    """Print kNN of sources, the best first, and what else was measured: retrieval, seeds, indexes, the probe."""
    from ..evaluation.results import BenchmarkRow  # which needs numpy

    out, protocol = console(), result.protocol
    labelled = [row for row in result.rows if isinstance(row, BenchmarkRow)]
    ordered = sorted(labelled, key=lambda row: -_score(row))
    if ordered:
        _knn(out, result.data, ordered)
    for note in dict.fromkeys(row.note for row in ordered if row.note):
        sources = ", ".join(row.source for row in ordered if row.note == note)
        line(f"Warning: {sources}: {note}", stderr=True)
    if retrieved := [(row.source, row.retrieval) for row in ordered if row.retrieval is not None]:
        _retrieval(out, retrieved)
    for row in ordered:
        if row.indexes:
            _indexes(out, row)
    if result.groups:
        _groups(out, result.groups)
    if not ordered:
        for one in result.rows:
            health = ", ".join(f"{name} {value:.3g}" for name, value in one.health.to_json().items())
            out.print(f"{escape(one.source)}: {one.dimension} columns; {health or 'not finite'}", soft_wrap=True)
    for one in result.rows:
        about(one.source, one.about)
    protocols = [*protocol.names, protocol.index, f"bank: {protocol.bank}", f"intervals: {protocol.intervals}"]
    if retrieved:
        protocols.append(HIT_RATE)
    if protocol.several:
        protocols.append(f"several labels a row: {protocol.several}")
    out.print(f"[dim]{escape('; '.join(protocols))}[/dim]", soft_wrap=True)


def clusters_table(result: "ClusterResult") -> None:
    """Print the clusters, the largest first, and how many images are near-duplicates or outliers."""
    out = console()
    line(f"clusters of {result.source} on {result.data}: {result.method}")
    found = table("cluster", "images", "most central", "labels")
    for row in result.clusters[:MOST_CLUSTERS]:
        labels = ", ".join(f"{name} {count}" for name, count in [*row.labels.items()][:3])
        found.add_row(str(row.cluster), f"{row.images:,}", escape(row.central[0]), escape(labels))
    if result.clusters:
        out.print(found)
    doubled = sum(map(len, result.duplicates))
    more = len(result.clusters) - MOST_CLUSTERS
    said = [f"{more:,} smaller clusters are not shown"] if more > 0 else []
    said += [f"{result.noise:,} of {result.images:,} images are in no cluster"] if result.noise else []
    said += [f"{doubled:,} are near-duplicates, in {len(result.duplicates):,} groups"]
    said += [f"{len(result.outliers):,} are outliers, the farthest off {', '.join(result.farthest)}"]
    line("; ".join(said) + ".")
    about(result.source, result.about)
    if result.note:
        line(f"Warning: {result.source}: {result.note}", stderr=True)
    line(f"{result.out} has a row for each image." + (f" {result.montage} shows them." if result.montage else ""))


def about(source: str, words: str | None) -> None:
    """Print what was made of a source's weights and done to images, where there is something to say."""
    if words:
        console().print(f"[dim]{escape(source)}: {escape(words)}[/dim]", soft_wrap=True)


def left_out(bad: Sequence["UnreadableRow"]) -> None:
    """Warn on standard error of images that have no row, since they cannot be read."""
    if bad:
        example = f"{bad[0].path} ({bad[0].reason})"
        count = f"{len(bad):,} images cannot be read and are" if len(bad) > 1 else "1 image cannot be read and is"
        line(f"Warning: {count} left out, first {example}.", stderr=True)


def _main(row: "BenchmarkRow") -> str:
    """Return the k that rows are ranked by: 20 where it is among those measured."""
    return "k20" if "k20" in row.knn else next(iter(row.knn))


def _score(row: "BenchmarkRow") -> float:
    return row.knn[_main(row)]


def _right(made: Table) -> Table:
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True
    made.columns[0].overflow = "fold"
    return made


def _knn(out: Console, data: str, rows: Sequence["BenchmarkRow"]) -> None:
    protocols = rows[0].protocols
    heads = [(p, k) for p, scores in protocols.items() for k in scores.knn]
    probed = any(row.probe for row in rows)
    made = table(
        "source", "dim", *(f"{p} {k}" if len(protocols) > 1 else f"kNN {k}" for p, k in heads),
        *(["probe"] if probed else []), *([] if narrow(out) else ["std", "rank"]), title=f"kNN on {escape(data)}",
    )  # fmt: skip
    for row in rows:
        scores = row.protocols
        main = (next(iter(scores)), _main(row))
        cells = [
            score(scores[p].knn[k]) + (_spread(row.interval[f"{p} {k}"]) if (p, k) == main else "") for p, k in heads
        ]
        more = [score(row.probe.accuracy if row.probe else None)] if probed else []
        numbers = (row.health.std, row.health.rank)
        health = [] if narrow(out) else [f"{float('nan') if x is None else x:.3g}" for x in numbers]
        made.add_row(escape(row.source), str(row.dimension), *cells, *more, *health)
    out.print(_right(made))


def _spread(interval: "Interval | None") -> str:
    """Return half of an interval as a text."""
    return "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.3f}"


def _retrieval(out: Console, rows: Sequence[tuple[str, "Retrieval"]]) -> None:
    others = {name: name for name in rows[0][1].metrics if name not in HIDDEN}
    names = SHORT if narrow(out) else {**RETRIEVAL, **{name: RETRIEVAL.get(name, name) for name in others}}
    queries, left = rows[0][1].queries, rows[0][1].without_positive
    without = f", {left} of them without a positive" if left else ""
    made = table("source", *names.values(), title=f"Retrieval, {queries:,} queries{without}")
    for source, retrieval in rows:
        made.add_row(escape(source), *(score(retrieval.metrics[name]) for name in names))
    out.print(_right(made))


def _indexes(out: Console, row: "BenchmarkRow") -> None:
    title = f"Indexes, {row.bank:,} x {row.dimension} rows of {escape(row.source)}"
    made = table("index", "recall@10", "queries/s", "kNN", "MiB", "build s", title=title)
    for one in row.indexes:
        sizes = (score(one.knn[_main(row)]), f"{one.bytes / 2**20:,.0f}", f"{one.build_seconds:.1f}")
        made.add_row(escape(one.index), score(one.recall), f"{one.queries_per_second:,.0f}", *sizes)
    out.print(_right(made))
    for one in row.indexes:
        if one.note:
            line(f"Warning: {one.note}", stderr=True)


def _groups(out: Console, groups: Sequence["SeedGroup"]) -> None:
    made = table("runs that differ by their seed", "seeds", *groups[0].knn, title="Over seeds")
    for group in groups:
        cells = (f"{x.mean:.3f} ± {x.sd:.3f}" for x in group.knn.values())
        made.add_row(escape(group.sources[0]), ", ".join(map(str, group.seeds)), *cells)
    out.print(_right(made))


def neighbours_table(result: "SearchResult") -> None:
    """Print the nearest images of each image."""
    out = console()
    for query in result.queries:
        label = _labels(query)
        title = query.image + (f", class {label}" if label == str(query.label) else f", {label}" if label else "")
        made = table("", "image", "class", "similarity", "distance", title=escape(title))
        for rank, one in enumerate(query.neighbours, start=1):
            name = one.file or f"{result.split}:{one.number}"
            marked = escape(_labels(one) or "-")
            color = "" if one.right is None else "[green]" if one.right else "[red]"
            made.add_row(str(rank), escape(name), f"{color}{marked}", f"{one.similarity:.4f}", f"{one.distance:.4f}")
        out.print(made)
    about(result.source, result.about)
    if result.out:
        out.print(f"gallery: {escape(result.out)}", soft_wrap=True)


def _labels(one: "QueryResult | Neighbour") -> str:
    """Return the names of an image's labels, or their numbers; nothing where it has none."""
    several = one.labels or ([] if one.label is None else [one.label])
    return one.label_name or ", ".join(map(str, several))


def runs_table(rows: Sequence["RunRow"]) -> None:
    """Print runs and what came of them; where there is little room, without what a run's name and files say."""
    out = console()
    kept = [head for head in RUNS if not (narrow(out) and head in ("method", "started"))]
    made = table(*kept)
    for column in made.columns:
        column.overflow, column.no_wrap = "fold", column.header != "run"
    for row in rows:
        numbers = (score(row.loss), score(row.std), text(row.rank), score(row.knn))
        done = f"{row.done}/{row.epochs}"
        cells = (escape(row.run), text(row.method), text(row.data), done, *numbers, text(row.started))
        made.add_row(*(cell for head, cell in zip(RUNS, cells, strict=True) if head in kept))
    out.print(made)
