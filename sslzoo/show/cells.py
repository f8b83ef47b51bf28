"""A table of runs on the screen: a line as each ends, and the table."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from ..studies import tables
from ..studies.watch import Watch
from .plain import console, duration, narrow, score, table

if TYPE_CHECKING:
    from ..studies.lattice import Cell
    from ..training.reporter import LogRow

COLOURS = {"healthy": "green", "partial": "yellow", "collapsed": "red", "diverged": "magenta", "refused": "dim"}


class CellsScreen(Watch):
    """Shows a table of runs as it goes."""

    def __init__(self, as_json: bool = False, quiet: bool = False):
        self.quiet = quiet
        self.out: Console = console(stderr=as_json)
        self.status: Status | None = None
        self.now, self.total, self.done = "", 0, 0.0
        self.started = time.monotonic()

    def begin(self, head: Mapping[str, Any], cells: Sequence["Cell"], todo: int, kept: int) -> None:
        """What will be done."""
        if self.quiet:
            return
        refused = sum(cell.refused is not None for cell in cells)
        said = [tables.counted(len(cells), "cell")] + ([f"{refused} refused"] if refused else [])
        said += [f"{tables.counted(todo, 'run')} to do"] + ([f"{kept} kept from before"] if kept else [])
        self.out.print(f"[bold]{escape(tables.title(dict(head)))}[/bold]", soft_wrap=True)
        self.out.print(f"{escape(tables.protocol(dict(head)))}; {', '.join(said)}", soft_wrap=True)
        self.started = time.monotonic()
        if self.out.is_terminal and todo:
            self.status = self.out.status("")
            self.status.start()

    def start(self, cell: "Cell", seed: int, number: int, todo: int) -> None:
        """The live line of a run."""
        self.now, self.total, self.done = f"{number}/{todo}  {cell.label or cell.text}, seed {seed}", todo, number - 1.0
        if self.status is not None:
            self.status.update(escape(self.now))

    def epoch(self, row: "LogRow", epochs: int) -> None:
        """An epoch has ended."""
        if self.status is not None:
            done = self.done + row.epoch / epochs
            left = (time.monotonic() - self.started) / done * (self.total - done)
            self.status.update(f"{escape(self.now)}, epoch {row.epoch}/{epochs}, {duration(left)} left")

    def end(self, cell: "Cell", record: Mapping[str, Any], number: int, todo: int) -> None:
        """A line for a run that has ended."""
        if self.quiet:
            return
        if record["diverged"]:
            said = "diverged: its loss is no longer finite"
        else:
            said = f"kNN {score(record['knn'])}  std {score(record['std'])}  rank {record['rank'] or 0:.1f}"
        line = f"{number:>{len(str(todo))}}/{todo}  {escape(cell.label or cell.text)}  seed {record['seed']}  {said}"
        self.out.print(f"{line}  {duration(record['seconds'])}", soft_wrap=True)

    def close(self) -> None:
        """Stop the live line."""
        if self.status is not None:
            self.status.stop()
            self.status = None


def cells_table(result: dict[str, Any]) -> None:
    """The table, why cells were refused, what ranks them, and where the files are."""
    out = console()
    heads, rows = tables.columns(result)
    close = narrow(out)  # then without what table.md has too
    kept = [n for n, head in enumerate(heads) if not (close and head in ("untrained", "guards"))]
    made = table(*(heads[n] for n in kept))
    made.padding = (0, 1, 0, 0) if close else made.padding
    for column in made.columns:
        column.overflow = "fold"
        if column.header in ("paper", "kNN", "untrained", "std", "rank", "loss"):
            column.justify, column.no_wrap = "right", True
    made.columns[-1].no_wrap = True
    for row, cell in zip(rows, result["cells"], strict=True):
        colour = "dim" if cell["refused"] else COLOURS.get(cell["verdict"] or "", "default")
        *others, verdict = (escape(row[n]) for n in kept)
        made.add_row(*others, f"[{colour}]{verdict}[/{colour}]", style="dim" if cell["refused"] else "")
    out.print()
    out.print(made)
    if close:
        untrained = score(tables.untrained(result))
        out.print(f"untrained backbone: kNN {untrained}; what guards each cell is in table.md", soft_wrap=True)
    for sentence in tables.refusals(result):
        out.print(f"[dim]{escape(sentence)}[/dim]", soft_wrap=True)
    for sentence in [*tables.notes(result), *tables.findings(result)]:
        out.print(escape(sentence), soft_wrap=True)
    for path in result["files"]:
        out.print(escape(path), soft_wrap=True)


def studies_table(rows: Sequence[Mapping[str, Any]], speed: int) -> None:
    """The studies, and what each costs."""
    out = console()
    made = table("study", "table", "cells x seeds x epochs", "about")
    for row in rows:
        size = f"{row['cells']} x {row['seeds']} x {row['epochs']}"
        about = f"{escape(row['title'])} [dim]({escape(row['source'])})[/dim]"
        made.add_row(f"[bold]{row['name']}[/bold]", about, size, f"{max(1, round(row['minutes']))} min")
    made.columns[2].justify = made.columns[3].justify = "right"
    out.print(made)
    out.print(f"[dim]about: at {speed:,} images/s; --epochs, --seeds and --limit change it[/dim]", soft_wrap=True)
