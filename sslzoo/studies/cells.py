"""Cells: expressions trained over seeds, every run kept as it ends; what is missing is trained, and no run twice."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path

from ..tools import files
from ..tools.errors import Diverged, UserError
from ..training import runs
from ..training.listeners.reporter import LogRow, Reporter, Result
from ..training.plan import Plan
from ..training.run import resume, train
from .lattice import Cell
from .results import Head, Table
from .setting import Setting
from .store import EndedRun, Store, left_aside, lock_file
from .summary import order, scoreboard, summarize
from .watch import Watch

MAX_SEEDS = 1000
COMMON = {"epoch", "loss", "std", "rank", "lr", "images_per_second", "knn"}  # columns of a log that are no scores


def run(
    cells: Sequence[Cell], setting: Setting, head: Head, folder: Path, watch: Watch, knn_each_epoch: bool = False
) -> Table:
    """Train what is missing of the cells and seeds, and return what all came to.

    Seed by seed, so that an interrupted table is whole as far as it goes. A run whose loss is no longer finite is a
    result. A run's kNN is measured after each epoch, or at its end only. Raises `UserError`, and `guards.Interrupted`
    once the state of the run is saved.
    """
    if not 1 <= head.protocol.seeds <= MAX_SEEDS:
        raise UserError(f"--seeds cannot be {head.protocol.seeds}; it is from 1 to {MAX_SEEDS}.")
    if (aside := left_aside(folder)) is not None:
        watch.note(aside)
    with files.locked(lock_file(folder)):
        return _Training(setting, Store(folder), watch, knn_each_epoch).run(cells, head)


class _Training:
    """Trains the runs of a table whose folder is locked."""

    def __init__(self, setting: Setting, store: Store, watch: Watch, knn_each_epoch: bool):
        self.setting, self.store, self.watch, self.knn_each_epoch = setting, store, watch, knn_each_epoch

    def run(self, cells: Sequence[Cell], head: Head) -> Table:
        """Train what is missing, and return the table; the store has it after each run."""
        distinct: dict[str, Cell] = {}
        for cell in cells:
            if cell.recipe is not None:
                distinct.setdefault(self.setting.key(cell), cell)
        wanted = [(key, seed) for seed in range(head.protocol.seeds) for key in distinct]
        todo = [(key, seed) for key, seed in wanted if self.store.find(key, seed) is None]
        table = self.save(cells, head)
        self.watch.begin(head, cells, len(todo), len(wanted) - len(todo))
        for number, (key, seed) in enumerate(todo, 1):
            self.watch.start(distinct[key], seed, number, len(todo))
            ended = self.train(distinct[key], key, seed)
            self.store.ended.append(ended)
            table = self.save(cells, head)
            self.watch.end(distinct[key], ended, number, len(todo))
        return table

    def save(self, cells: Sequence[Cell], head: Head) -> Table:
        """Make the table of the runs that have ended, keep it, and return it."""
        ended = [
            [one for seed in range(head.protocol.seeds) if (one := self.store.find(self.setting.key(cell), seed))]
            for cell in cells
        ]
        found = summarize(cells, ended, self.store.folder)
        self.store.table = Table(
            head=head, folder=str(self.store.folder), cells=found, order=order(found), scoreboard=scoreboard(found)
        )
        self.store.save()
        return self.store.table

    def train(self, cell: Cell, key: str, seed: int) -> EndedRun:
        """Train one run, from its start or from where it was stopped, and return what it came to."""
        assert cell.recipe is not None
        folder, name = self.store.folder, f"{key}-{seed}"
        reporter, started = _Progress(self.watch, self.store, name), time.perf_counter()
        every = None if self.knn_each_epoch else cell.recipe.training.epochs
        options = replace(self.setting.options, seed=seed, out=str(folder / "runs"), knn_every=every)
        stopped = folder / self.store.begun.get(name, "nowhere")
        found: Result | None = None
        with suppress(Diverged):
            going_on = (stopped / "last.pt").is_file()
            found = resume(stopped, reporter) if going_on else train([cell.text], reporter=reporter, **asdict(options))
        path = self.store.begun.pop(name, None)
        numbers = {key: _finite(getattr(found, key, None)) for key in ("random_knn", "raw_knn", "loss", "std", "rank")}
        return EndedRun(
            key=key, seed=seed, expression=cell.text, diverged=found is None,
            knn=found.knn["k20"] if found and found.knn else None,
            **numbers, scores=scores(runs.read_log(folder / path)) if path else {},
            seconds=time.perf_counter() - started, run=path,
            notes=found.notes if found else (),
        )  # fmt: skip


class _Progress(Reporter):
    """Notes in the store which run has begun, and tells the watch of its epochs."""

    def __init__(self, watch: Watch, store: Store, name: str):
        self.watch, self.store, self.name = watch, store, name

    def begin(self, plan: Plan, run: Path, epoch: int) -> None:
        """Keep the run's directory, to go on with it where it is stopped."""
        self.store.begun[self.name] = run.relative_to(self.store.folder).as_posix()
        self.store.save()

    def epoch(self, row: LogRow, epochs: int) -> None:
        """Pass the number of an epoch on."""
        self.watch.epoch(row.epoch, epochs)


def _finite(value: float | None) -> float | None:
    """Return a number; None for one that is not finite."""
    return value if value is not None and isfinite(value) else None


def scores(log: Sequence[LogRow]) -> dict[str, float]:
    """Return the label-free scores of a log's last row, beyond std and rank."""
    row = log[-1].to_json() if log else {}
    return {key: float(value) for key, value in row.items() if key not in COMMON and isfinite(value)}
