"""Tables of kNN and of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from .plain import console, narrow, score, table, text

RUNS = ("run", "method", "data", "epochs", "loss", "std", "rank", "kNN k20", "started")


def knn_table(result: Mapping[str, Any]) -> None:
    """kNN and recall of sources, the best at k = 20 first."""
    out = console()
    protocol, rows = result["protocol"], result["rows"]
    names, recalls = list(rows[0]["knn"]), list(rows[0]["recall"])
    made = table(
        "source",
        "dim",
        *(f"kNN {n}" for n in names),
        *(f"recall@{n[1:]}" for n in recalls),
        "seconds",
        title=f"kNN on {escape(result['data'])}",
    )
    for column in made.columns[1:]:
        column.justify = "right"
    for row in sorted(rows, key=lambda r: -r["knn"].get("k20", next(iter(r["knn"].values())))):
        cells = [*(row["knn"][n] for n in names), *(row["recall"][n] for n in recalls)]
        made.add_row(escape(row["source"]), str(row["dimension"]), *map(score, cells), f"{row['seconds']:.1f}")
    out.print(made)
    about = (f"T = {protocol['temperature']}", protocol["index"], protocol["features"], f"bank: {protocol['bank']}")
    out.print(f"[dim]{', '.join(about)}[/dim]", soft_wrap=True)


def runs_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs and what came of them; where there is little room, without what a run's name and files say."""
    out = console()
    kept = [head for head in RUNS if not (narrow(out) and head in ("method", "started"))]
    made = table(*kept)
    for column in made.columns:
        column.overflow, column.no_wrap = "fold", column.header != "run"
    for row in rows:
        numbers = (score(row["loss"]), score(row["std"]), text(row["rank"]), score(row["knn"]))
        done = f"{row['done']}/{row['epochs']}"
        cells = (escape(row["run"]), text(row["method"]), text(row["data"]), done, *numbers, text(row["started"]))
        made.add_row(*(cell for head, cell in zip(RUNS, cells, strict=True) if head in kept))
    out.print(made)
