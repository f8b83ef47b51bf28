"""Ablations: an expression's lattice, trained over seeds, in one folder with its table and its picture."""

import glob
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..recipes.algebra import parse
from ..recipes.recipe import dump
from ..tools.errors import UserError
from ..tools.records import Record
from ..training import runs
from . import cells, tables
from .lattice import lattice, read_flips
from .pictures.kinds import draw
from .results import Head, Table
from .setting import Given, Setting, command, options
from .watch import Watch


def ablate(
    words: str | Sequence[str], flip: Sequence[str], given: Given, seeds: int = 1, watch: Watch | None = None
) -> Table:
    """Train every combination of the flipped switches, and return the table.

    ``words`` are the expression, ``flip`` is what is flipped, as in ``["predictor", "tau=0.9|0.99"]``, and ``given``
    what all runs share. Finished runs are kept in the folder below ``out`` and not run again. Raises `UserError`.
    """
    words = [words] if isinstance(words, str) else list(words)
    base = parse(words, finished=False)  # the cells are
    flips = read_flips(flip, base.switches, base.base.name)
    flags = [word for text in flip for word in ("--flip", text)]
    typed = command("ablate", [*words, *flags], {**given, "seeds": seeds})
    asked, start = options(given), f"ablate-{runs.slug(base.text)}-"
    scheduled = any(one.key == "training.epochs" for one in flips)
    trains = [cell.text for cell in lattice(words, flips) if cell.refused is None]
    if not scheduled and (begun := begun_as(Path(asked.out), start, typed)) is not None:
        asked = replace(asked, epochs=begun.epochs, image_size=begun.image_size, minutes=None)
    setting = Setting.of(asked, None if scheduled else trains[:1])
    recipe = setting.resolved(base)
    values = {one.key: list(one.values) for one in flips}
    folder = Path(asked.out) / f"{start}{setting.digest(dump(recipe), values)}"
    found = lattice(words, flips, setting.recipe)
    head = Head(expression=base.text, command=typed, protocol=setting.protocol(found, seeds), flip=values)
    watch = watch or Watch()
    for note in setting.notes:
        watch.note(note)
    table = cells.run(found, setting, head, folder, watch)
    return tables.write(table, draw(table, ["lattice"]))


@dataclass(frozen=True)
class Begun(Record):
    """Describes what is read of a table that was begun: its command, and what was chosen for all of its cells."""

    command: str
    epochs: int | None
    image_size: int


def begun_as(out: Path, start: str, typed: str) -> Begun | None:
    """Return what a table of the same command has begun with, but for its seeds; None where there is none.

    How fast a machine is may be measured otherwise another day, and the same command goes on where it was stopped.
    """
    for path in sorted(out.glob(f"{glob.escape(start)}*/cells.json")):
        with suppress(UserError):
            begun = Begun.read(path, "It is damaged.")
            if without_seeds(begun.command) == without_seeds(typed):
                return begun
    return None


def without_seeds(command: str) -> list[str]:
    """Return the words of a command line but for how many seeds it has."""
    words = shlex.split(command)
    at = words.index("--seeds") if "--seeds" in words else len(words)
    return words[:at] + words[at + 2 :]
