"""A table of runs on the screen: a line as each ends, and the table."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.status import Status

from ..studies import tables
from ..studies.watch import Watch
from .plain import console, duration, escape, narrow, score, table
from .waiting import Waiting

if TYPE_CHECKING:
    from ..studies.lattice import Cell
    from ..studies.results import Head, Table
    from ..studies.store import EndedRun
    from ..studies.study import ListedStudy

COLOURS = {"healthy": "green", "partial": "yellow", "collapsed": "red", "diverged": "magenta", "refused": "dim"}


class CellsScreen(Watch):
    """Shows a table of runs as it goes."""

    def __init__(self, as_json: bool = False, quiet: bool = False):
        self.quiet = quiet
        self.out: Console = console(stderr=as_json, lasting=True)
        self.status: Status | None = None
        self.waiting = Waiting()
        self.now, self.total, self.done = "", 0, 0.0
        self.started = time.monotonic()

    def work(self, name: str, done: int, total: int | None) -> None:
        """Show how much is done of what has to be done before the runs."""
        if self.status is None and not self.quiet:
            self.waiting.at(name, done, total)

    def begin(self, head: "Head", cells: Sequence["Cell"], todo: int, kept: int) -> None:
        """Print what the table is and what will be done, and start the live line of a terminal."""
        self.waiting.close()
        if self.quiet:
            return
        refused = sum(cell.refused is not None for cell in cells)
        parts = [tables.counted(len(cells), "cell")] + ([f"{refused} refused"] if refused else [])
        parts += [f"{tables.counted(todo, 'run')} to do"] + ([f"{kept} kept from before"] if kept else [])
        self.out.print(f"[bold]{escape(tables.title(head))}[/bold]", soft_wrap=True)
        self.out.print(f"{escape(tables.protocol(head))}; {', '.join(parts)}", soft_wrap=True)
        self.started = time.monotonic()
        if self.out.is_terminal and todo:
            self.status = self.out.status("")
            self.status.start()

    def note(self, sentence: str) -> None:
        """Print what a person should know of the table."""
        if not self.quiet:
            self.out.print(f"note: {escape(sentence)}", soft_wrap=True)

    def start(self, cell: "Cell", seed: int, number: int, todo: int) -> None:
        """Show a run in the live line."""
        self.now, self.total, self.done = f"{number}/{todo}  {cell.label or cell.text}, seed {seed}", todo, number - 1.0
        if self.status is not None:
            self.status.update(escape(self.now))

    def epoch(self, epoch: int, epochs: int) -> None:
        """Show an epoch that has ended in the live line, with the time that is left for the table."""
        if self.status is not None:
            done = self.done + epoch / epochs
            left = (time.monotonic() - self.started) / done * (self.total - done)
            self.status.update(f"{escape(self.now)}, epoch {epoch}/{epochs}, {duration(left)} left")

    def end(self, cell: "Cell", run: "EndedRun", number: int, todo: int) -> None:
        """Print a line for a run that has ended."""
        if self.quiet:
            return
        if run.diverged:
            numbers = "diverged: its loss is no longer finite"
        else:
            numbers = f"kNN {score(run.knn)}  std {score(run.std)}  rank {run.rank or 0:.1f}"
        line = f"{number:>{len(str(todo))}}/{todo}  {escape(cell.label or cell.text)}  seed {run.seed}  {numbers}"
        self.out.print(f"{line}  {duration(run.seconds)}", soft_wrap=True)

    def close(self) -> None:
        """Stop the live line."""
        self.waiting.close()
        if self.status is not None:
            self.status.stop()
            self.status = None


def cells_table(found: "Table") -> None:
    """Print the table, why cells were refused, what ranks them, and where the files are."""
    out = console()
    heads, rows = tables.columns(found)
    close = narrow(out)  # then without what table.md has too
    kept = [n for n, head in enumerate(heads) if not (close and head in ("untrained", "guards"))]
    made = table(*(heads[n] for n in kept))
    made.padding = (0, 1, 0, 0) if close else made.padding
    for column in made.columns:
        column.overflow = "fold"
        if column.header in ("paper", "kNN", "untrained", "std", "rank", "loss"):
            column.justify, column.no_wrap = "right", True
    made.columns[-1].no_wrap = True
    for row, cell in zip(rows, found.cells, strict=True):
        colour = COLOURS.get(tables.verdict(cell), "default")
        *others, verdict = (escape(row[n]) for n in kept)
        made.add_row(*others, f"[{colour}]{verdict}[/{colour}]", style="dim" if cell.refused else "")
    out.print()
    out.print(made)
    if close:
        untrained = score(tables.untrained(found))
        out.print(f"untrained backbone: kNN {untrained}; what guards each cell is in table.md", soft_wrap=True)
    for sentence in tables.refusals(found):
        out.print(f"[dim]{escape(sentence)}[/dim]", soft_wrap=True)
    for sentence in [*tables.notes(found.head), *tables.findings(found)]:
        out.print(escape(sentence), soft_wrap=True)
    for path in found.files:
        out.print(escape(path), soft_wrap=True)


def studies_table(studies: Sequence["ListedStudy"], speed: int) -> None:
    """Print the studies, and what each costs at so many images a second."""
    out = console()
    made = table("study", "table", "cells x seeds x epochs", "about")
    for study in studies:
        size = f"{study.cells} x {study.seeds} x {study.epochs}"
        about = f"{escape(study.title)} [dim]({escape(study.source)})[/dim]"
        made.add_row(f"[bold]{study.name}[/bold]", about, size, f"{max(1, round(study.minutes))} min")
    made.columns[2].justify = made.columns[3].justify = "right"
    out.print(made)
    out.print(f"[dim]about: at {speed:,} images/s; --epochs, --seeds and --limit change it[/dim]", soft_wrap=True)
