"""Tables of kNN and retrieval, of neighbours, and of runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from .plain import console, line, narrow, score, table, text

if TYPE_CHECKING:
    from ..training.runs import RunRow

Row = Mapping[str, Any]
RETRIEVAL = {
    "recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "precision@10": "P@10", "r_precision": "R-prec",
    "map@r": "MAP@R", "map": "mAP", "map_revisited": "mAP rev.", "mrr": "MRR", "ndcg": "nDCG", "anmrr": "ANMRR",
}  # fmt: skip
SHORT = {name: RETRIEVAL[name] for name in ("recall@1", "recall@10", "precision@10", "map@r", "map", "ndcg")}
RUNS = ("run", "method", "data", "epochs", "loss", "std", "rank", "kNN k20", "started")


class Bar:
    """A line on a terminal that says how far the embedding of a source is; gone once it is through."""

    def __init__(self) -> None:
        out = console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def at(self, source: str, done: int, total: int) -> None:
        """So many images of a source are done."""
        if source not in self.tasks:
            self.tasks[source] = self.progress.add_task(escape(source))
        self.progress.update(self.tasks[source], completed=done, total=total, visible=done < total)


def knn_tables(result: Row) -> None:
    """kNN of sources, the best first, and what else was asked for: retrieval, seeds, indexes, the linear probe."""
    out, protocol = console(), result["protocol"]
    rows = sorted((row for row in result["rows"] if row["knn"]), key=lambda row: -row["knn"][_main(row)])
    rows += [row for row in result["rows"] if not row["knn"]]
    scored = [row for row in rows if row["knn"]]
    if scored:
        _knn(out, result["data"], scored)
    if any("retrieval" in row for row in rows):
        _retrieval(out, [row for row in rows if "retrieval" in row])
    for row in rows:
        if row.get("indexes"):
            _indexes(out, row)
    if result["groups"]:
        _groups(out, result["groups"])
    if not scored:
        for row in rows:
            said = ", ".join(f"{name} {value:.3g}" for name, value in row["health"].items())
            out.print(f"{escape(row['source'])}: {row['dimension']} columns; {said or 'not finite'}", soft_wrap=True)
    about = (*protocol["names"], protocol["index"], f"bank: {protocol['bank']}", f"intervals: {protocol['intervals']}")
    out.print(f"[dim]{escape('; '.join(about))}[/dim]", soft_wrap=True)


def left_out(bad: Sequence[Row]) -> None:
    """A warning on standard error where images have no row, since they cannot be read."""
    if bad:
        first = f"{bad[0]['path']} ({bad[0]['reason']})"
        line(f"Warning: {len(bad):,} images cannot be read and are left out, first {first}.", stderr=True)


def _main(row: Row) -> str:
    """The k that rows are ranked by: 20 where it was looked at."""
    return "k20" if "k20" in row["knn"] else next(iter(row["knn"]))


def _right(made: Table) -> Table:
    for column in made.columns[1:]:
        column.justify, column.no_wrap = "right", True
    made.columns[0].overflow = "fold"
    return made


def _knn(out: Console, data: str, rows: Sequence[Row]) -> None:
    many = len(rows[0]["protocols"]) > 1
    heads = [(p, k) for p, found in rows[0]["protocols"].items() for k in found["knn"]]
    probed = any(row["probe"] for row in rows)
    made = table(
        "source", "dim", *(f"{p} {k}" if many else f"kNN {k}" for p, k in heads),
        *(["probe"] if probed else []), *([] if narrow(out) else ["std", "rank"]), title=f"kNN on {escape(data)}",
    )  # fmt: skip
    for row in rows:
        main = (next(iter(row["protocols"])), _main(row))
        cells = [
            score(row["protocols"][p]["knn"][k]) + (_spread(row["interval"][f"{p} {k}"]) if (p, k) == main else "")
            for p, k in heads
        ]
        more = [score(row["probe"] and row["probe"]["accuracy"])] if probed else []
        health = [] if narrow(out) else [f"{row['health'].get(key, float('nan')):.3g}" for key in ("std", "rank")]
        made.add_row(escape(row["source"]), str(row["dimension"]), *cells, *more, *health)
    out.print(_right(made))


def _spread(interval: Sequence[float] | None) -> str:
    """Half of an interval."""
    return "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.3f}"


def _retrieval(out: Console, rows: Sequence[Row]) -> None:
    names = SHORT if narrow(out) else RETRIEVAL
    queries, left = rows[0]["retrieval"]["queries"], rows[0]["retrieval"]["without_positive"]
    without = f", {left} of them without a positive" if left else ""
    made = table("source", *names.values(), title=f"Retrieval, {queries:,} queries{without}")
    for row in rows:
        made.add_row(escape(row["source"]), *(score(row["retrieval"][name]) for name in names))
    out.print(_right(made))


def _indexes(out: Console, row: Row) -> None:
    title = f"Indexes, {row['bank']:,} x {row['dimension']} rows of {escape(row['source'])}"
    made = table("index", "recall@10", "queries/s", "kNN", "MiB", "build s", title=title)
    for one in row["indexes"]:
        knn = score(one["knn"][_main(row)]) if "knn" in one else "-"
        sizes = (f"{one['bytes'] / 2**20:,.0f}", f"{one['build_seconds']:.1f}")
        made.add_row(escape(one["index"]), score(one["recall@10"]), f"{one['queries_per_second']:,.0f}", knn, *sizes)
    out.print(_right(made))


def _groups(out: Console, groups: Sequence[Row]) -> None:
    made = table("runs that differ by their seed", "seeds", *groups[0]["knn"], title="Over seeds")
    for group in groups:
        cells = (f"{x['mean']:.3f} ± {x['sd']:.3f}" for x in group["knn"].values())
        made.add_row(escape(group["sources"][0]), ", ".join(map(str, group["seeds"])), *cells)
    out.print(_right(made))


def neighbours_table(result: Row) -> None:
    """The nearest images of each image."""
    out = console()
    for query in result["queries"]:
        label = "" if query["label"] is None else f", class {query['label']}"
        made = table("", "image", "class", "similarity", "distance", title=escape(f"{query['image']}{label}"))
        for rank, one in enumerate(query["neighbours"], start=1):
            name = one["file"] or f"{result['split']}:{one['place']}"
            marked = "-" if one["label"] is None else str(one["label"])
            color = "" if one["right"] is None else "[green]" if one["right"] else "[red]"
            made.add_row(
                str(rank), escape(name), f"{color}{marked}", f"{one['similarity']:.4f}", f"{one['distance']:.4f}"
            )
        out.print(made)
    if result["out"]:
        out.print(f"gallery: {escape(result['out'])}", soft_wrap=True)


def runs_table(rows: Sequence["RunRow"]) -> None:
    """Runs and what came of them; where there is little room, without what a run's name and files say."""
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
