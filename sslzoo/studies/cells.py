"""Cells: expressions trained over seeds, every run kept as it ends; what is missing is trained, and no run twice."""

import hashlib
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from ..recipes import plugins
from ..recipes.algebra import Expression
from ..recipes.layers import Circumstances, resolve_here
from ..recipes.recipe import Recipe, dump
from ..tools import files, records
from ..tools.errors import Diverged, UserError
from ..training import runs
from ..training.machine import versions
from ..training.plan import Options, Plan, check, surroundings
from ..training.reporter import LogRow, Reporter, Result
from ..training.run import resume, train
from .lattice import Cell
from .summary import summarize
from .watch import Watch

Row = dict[str, Any]
MOST_SEEDS = 1000
RECORD = {  # of a run that has ended
    "key": str, "seed": int, "expression": str, "diverged": bool, "scores": dict, "seconds": records.NUMBER,
    "run": str | None, **dict.fromkeys(("knn", "random_knn", "raw_knn", "loss", "std", "rank"), records.NUMBER | None),
}  # fmt: skip
USUAL = {"epoch", "loss", "std", "rank", "lr", "images_per_second", "knn"}  # columns of a log; others are scores


@dataclass(frozen=True)
class Setting:
    """What all cells share: the options of the runs, and the data and device that they mean."""

    options: Options
    data: str
    size: int
    facts: Mapping[str, Any]  # all but the recipe and the seed that a number depends on
    images: int
    device: torch.device

    @staticmethod
    def of(options: Options) -> "Setting":
        """The setting that options make. Raises `UserError` where that cannot be."""
        data, device, precision = surroundings(options)
        facts: dict[str, Any] = {
            "data": str(Path(options.data).resolve()) if data.own else data.name, "images": len(data.train),
            "image_size": data.size, "mean": data.mean, "std": data.std, "device": device.type, "precision": precision,
        }  # fmt: skip
        if used := sorted(plugin.sha256 for plugin in plugins.loaded()):
            facts["plugins"] = used
        return Setting(options, data.name, data.size, facts, len(data.train), device)

    def resolved(self, expression: Expression) -> Recipe:
        """The recipe of an expression here, whether or not it can train. Raises `UserError`."""
        here = Circumstances(self.data, self.size, self.images, self.device.type)
        return resolve_here(expression, here, self.options.flags)

    def recipe(self, expression: Expression) -> Recipe:
        """The recipe of an expression that is trained here. Raises `UserError`."""
        found = self.resolved(expression)
        check(found, self.images)
        return found

    def digest(self, *parts: object) -> str:
        """A short hash of the setting and of what else numbers depend on."""
        return hashlib.sha256(json.dumps([self.facts, *parts], default=str).encode()).hexdigest()[:8]

    def key(self, cell: Cell) -> str:
        """What the numbers of a cell depend on, but for the seed: cells of the same key are trained once."""
        return self.digest(dump(cell.recipe)) if cell.recipe is not None else ""

    def head(self, cells: Sequence[Cell], seeds: int) -> Row:
        """The protocol, as tables and JSON state it; None for what is not the same in all cells.

        Raises `UserError` where no cell can train, or where an option for all cells would have the last word over what
        cells set themselves.
        """
        recipes = [cell.recipe for cell in cells if cell.recipe is not None]
        if not recipes:
            raise UserError(cells[0].refused or "")
        shared: Row = {}
        for key in ("epochs", "batch_size", "backbone"):
            given = getattr(self.options, key)
            if given is not None and any(f"training.{key}" in recipe.written for recipe in recipes):
                raise UserError(
                    f"{key} is {given} for the whole table, and cells set it too; leave one of the two out."
                )
            there = {getattr(recipe.training, key) for recipe in recipes}
            shared[key] = there.pop() if len(there) == 1 else None
        return {
            "data": self.data, "epochs": shared["epochs"], "seeds": seeds, "batch_size": shared["batch_size"],
            "backbone": shared["backbone"], "images": self.images, "image_size": self.size,
            "device": str(self.device), "precision": self.facts["precision"], "versions": versions(),
        }  # fmt: skip


def command(verb: str, words: Sequence[str], options: Mapping[str, Any]) -> str:
    """The command line of a table, options that are as always left out."""
    usual = asdict(Options())
    given = {key: value for key, value in options.items() if value not in (None, usual.get(key))}
    flags = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    flags += [word for plugin in plugins.loaded() for word in ("--plugin", plugin.path)]
    return shlex.join(["sslzoo", verb, *words, *flags])


class Store:
    """cells.json of a folder: the protocol and the table as they stand, the runs that ended, and those that began."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "cells.json"
        self.table: Row = {}
        self.ended: list[Row] = []
        self.begun: dict[str, str] = {}  # "key-seed" -> run, below the folder
        if self.path.is_file():
            wrong = f"{self.path} is broken; remove {folder} to start anew."
            content = records.read_json(self.path, {"ended": list, "begun": dict}, wrong)
            self.ended, self.begun = content["ended"], content["begun"]
            texts = all(isinstance(run, str) for run in self.begun.values())
            if not texts or not all(records.fits(row, RECORD) for row in self.ended):
                raise UserError(wrong)

    def find(self, key: str, seed: int) -> Row | None:
        """The record of a run that has ended."""
        return next((row for row in self.ended if (row["key"], row["seed"]) == (key, seed)), None)

    def save(self) -> None:
        """Write all, whole."""
        records.write_json(self.path, {**self.table, "ended": self.ended, "begun": self.begun})


class _Pulse(Reporter):
    """Notes in the store which run has begun, and passes its epochs on."""

    def __init__(self, watch: Watch, store: Store, name: str):
        self.watch, self.store, self.name = watch, store, name

    def begin(self, plan: Plan, run: Path, epoch: int) -> None:
        self.store.begun[self.name] = run.relative_to(self.store.folder).as_posix()
        self.store.save()

    def epoch(self, row: LogRow, epochs: int) -> None:
        self.watch.epoch(row, epochs)


def run(cells: Sequence[Cell], setting: Setting, head: Row, folder: Path, watch: Watch, looks: bool = False) -> Row:
    """Train what is missing of the cells and seeds, and say what all came to; ``looks`` keeps the looks at kNN.

    Seed by seed, so that an interrupted table is whole as far as it goes. A run whose loss is no longer finite is a
    result. Raises `UserError`, and `guards.Interrupted` once the state of the run is saved.
    """
    if not 1 <= head["seeds"] <= MOST_SEEDS:
        raise UserError(f"--seeds cannot be {head['seeds']}; it is from 1 to {MOST_SEEDS}.")
    with files.locked(hold(folder)):
        return _run_all(cells, setting, head, Store(folder), watch, looks)


def hold(folder: Path) -> Path:
    """The file that stands for a table's folder, which is made, while one process works in it."""
    lock = folder / ".lock"
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); give --out another folder.") from None
    return lock


def _run_all(cells: Sequence[Cell], setting: Setting, head: Row, store: Store, watch: Watch, looks: bool) -> Row:
    """The same, once the folder is held."""
    folder, distinct = store.folder, dict[str, Cell]()
    for cell in cells:
        if cell.recipe is not None:
            distinct.setdefault(setting.key(cell), cell)
    wanted = [(key, seed) for seed in range(head["seeds"]) for key in distinct]
    todo = [(key, seed) for key, seed in wanted if store.find(key, seed) is None]

    def save() -> None:
        found = [[row for seed in range(head["seeds"]) if (row := store.find(setting.key(c), seed))] for c in cells]
        store.table = {**head, "folder": str(folder), **summarize(cells, found, folder)}
        store.save()

    save()
    watch.begin(head, cells, len(todo), len(wanted) - len(todo))
    for number, (key, seed) in enumerate(todo, 1):
        watch.start(distinct[key], seed, number, len(todo))
        record = {"key": key, "seed": seed, **_run(distinct[key], seed, f"{key}-{seed}", setting, store, watch, looks)}
        store.ended.append(record)
        save()
        watch.end(distinct[key], record, number, len(todo))
    return store.table


def _run(cell: Cell, seed: int, name: str, setting: Setting, store: Store, watch: Watch, looks: bool) -> Row:
    """One run, from its start or from where it was stopped."""
    assert cell.recipe is not None
    pulse, started = _Pulse(watch, store, name), time.perf_counter()
    every = None if looks else cell.recipe.training.epochs
    options = asdict(replace(setting.options, seed=seed, out=str(store.folder / "runs"), knn_every=every))
    stopped = store.folder / store.begun.get(name, "nowhere")
    found: Result | None = None
    with suppress(Diverged):
        going_on = (stopped / "last.pt").is_file()
        found = resume(stopped, pulse) if going_on else train([cell.text], reporter=pulse, **options)
    path = store.begun.pop(name, None)
    numbers = {key: getattr(found, key, None) for key in ("random_knn", "raw_knn", "loss", "std", "rank")}
    return {
        "expression": cell.text, "diverged": found is None, "knn": found.knn["k20"] if found and found.knn else None,
        **{key: value if value is not None and isfinite(value) else None for key, value in numbers.items()},
        "scores": scores(runs.read_log(store.folder / path)) if path else {}, "seconds": time.perf_counter() - started,
        "run": path,
    }  # fmt: skip


def scores(log: Sequence[LogRow]) -> dict[str, float]:
    """The label-free scores of a log's last row beyond the usual ones."""
    row = log[-1].to_json() if log else {}
    return {key: float(value) for key, value in row.items() if key not in USUAL and isfinite(value)}
