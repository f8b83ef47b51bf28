"""The setting of a table: data, device and options that its cells share, and the hashes by which runs are found again.

A hash is a part of a folder's name and of what cells.json keeps; it must not change, or what was trained is lost.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypedDict, TypeVar

import torch

from ..data.contents.identity import Identity
from ..recipes import plugins
from ..recipes.algebra import FLAGS, SIZE, Expression
from ..recipes.layers import Circumstances, resolve_here, size_asked
from ..recipes.recipe import Recipe, dump
from ..tools.errors import UserError
from ..tools.records import Record
from ..training.budget import choice as budget
from ..training.machine import versions
from ..training.options import Options
from ..training.plan import check, is_named, surroundings, view_size
from .lattice import Cell
from .results import Protocol

T = TypeVar("T")
NOTHING_CHANGES = ("workers", "memory", "max_bad", "out")  # options that no number of a table depends on


class Given(TypedDict, total=False):
    """What a person gave for all runs of a table, in their order, which its command and a study's hash keep.

    The keys are those of `plan.Options`; what is not there, or None, is as in `Options`, or as a study's file says.
    """

    data: str | None
    train: str | None
    val: str | None
    test: str | None
    labels: str | None
    unlabelled: str | None
    class_depth: int | None
    channels: int | None
    epochs: int | None
    minutes: float | None
    batch_size: int | None
    backbone: str | None
    image_size: int | None
    limit: int | None
    workers: int | None
    memory: str
    max_bad: float | None
    range: str | None
    device: str
    precision: str
    baselines: bool | None
    out: str


@dataclass(frozen=True)
class Facts(Record):
    """Describes what a number of a table depends on beside the recipe and the seed.

    ``data`` is a name, of a person's or a plugin's data the hash of their images, labels and splits, and with it the
    table's numbers hold wherever they lie; ``images`` are those of training, ``image_size`` is in pixels, ``mean`` and
    ``std`` are the three channels'. ``versions`` are those of what computes.
    """

    data: str
    images: int
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    device: str
    precision: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Setting:
    """Describes what all cells share: the options of their runs, and the data and device that these mean.

    ``notes`` say what was chosen for all of them.
    """

    options: Options
    data: str
    device: torch.device
    facts: Facts
    notes: Sequence[str] = ()

    @staticmethod
    def of(options: Options, words: Sequence[str] | None = None) -> "Setting":
        """Return the setting that options make. Raises `UserError` where that cannot be.

        Where nobody says how many epochs there are, all cells have as many as the expression ``words`` has time for.
        """
        around = surroundings(options)
        choice = None if not words else budget.choose(words, options, around)
        if choice is not None:
            options = replace(options, epochs=choice.epochs, image_size=choice.size, minutes=None)
        size, _, why = view_size(options, around)
        notes = why if choice is None else choice.notes
        data, device, precision = around.ready(size, options), around.device, around.precision
        name = data.name if is_named(data) else Identity.of(data, read=True).digest()  # a plugin's may change
        own = {key: version for key, version in versions().items() if key != "python"}
        facts = Facts(name, len(data.train), data.size, data.mean, data.std, device.type, precision, own)
        return Setting(options, data.name, device, facts, notes)

    def resolved(self, expression: Expression) -> Recipe:
        """Return the recipe of an expression here, whether or not it can train. Raises `UserError`."""
        size, origin = size_asked(expression) or (self.facts.image_size, "data")
        if self.options.image_size is not None:
            size, origin = self.options.image_size, FLAGS[SIZE]
        here = Circumstances(self.data, size, self.facts.images, self.device.type, origin)
        return resolve_here(expression, here, self.options.flags)

    def recipe(self, expression: Expression) -> Recipe:
        """Return the recipe of an expression that can train here. Raises `UserError` for one that cannot."""
        found = self.resolved(expression)
        check(found, self.facts.images)
        return found

    def digest(self, *parts: object) -> str:
        """Return a short hash of the setting and of what else numbers depend on."""
        content = [self.facts.to_json(), *parts, *(plugin.sha256 for plugin in plugins.loaded())]
        content += [] if self.options.range is None else [f"--range {self.options.range}"]
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:8]

    def key(self, cell: Cell) -> str:
        """Return the hash of all that a cell's numbers depend on but the seed: cells of one key are trained once."""
        return self.digest(dump(cell.recipe)) if cell.recipe is not None else ""

    def protocol(self, cells: Sequence[Cell], seeds: int) -> Protocol:
        """Return what all numbers of the cells depend on.

        Raises `UserError` where no cell can train, or where an option for all cells would have the last word over what
        cells set themselves.
        """
        recipes = [cell.recipe for cell in cells if cell.recipe is not None]
        if not recipes:
            raise UserError(cells[0].refused or "")
        for key in ("epochs", "batch_size", "backbone"):
            given = getattr(self.options, key)
            if given is not None and any(f"training.{key}" in recipe.written for recipe in recipes):
                raise UserError(
                    f"{key} is {given} for the whole table, and cells set it too; leave one of the two out."
                )
        epochs, sizes, backbones = (
            {getattr(recipe.training, key) for recipe in recipes} for key in ("epochs", "batch_size", "backbone")
        )
        return Protocol(
            data=self.data, epochs=_only(epochs), seeds=seeds, batch_size=_only(sizes), backbone=_only(backbones),
            images=self.facts.images, image_size=self.facts.image_size, device=str(self.device),
            precision=self.facts.precision, versions=versions(),
        )  # fmt: skip


def _only(values: set[T]) -> T | None:
    """Return the one value of a set; None where it has several."""
    return next(iter(values)) if len(values) == 1 else None


def options(given: Given) -> Options:
    """Return the options that all runs of a table share; None is as always."""
    return Options(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]


def command(verb: str, words: Sequence[str], given: Mapping[str, object]) -> str:
    """Return the command line that makes a table, without options that are as always, with the plugins in use."""
    usual = asdict(Options())
    changed = {key: value for key, value in given.items() if value not in (None, usual.get(key))}
    flags = []
    for key, value in changed.items():
        name = key.replace("_", "-")
        flags += [f"--no-{name}"] if value is False else [f"--{name}", str(value)]
    flags += [word for plugin in plugins.loaded() for word in ("--plugin", plugin.path)]
    return shlex.join(["sslzoo", verb, *words, *flags])
