"""Ablations: an expression's lattice, trained over seeds, in one folder with its table and its picture."""

from collections.abc import Sequence
from pathlib import Path

from ..recipes.algebra import parse
from ..recipes.recipe import dump
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
    setting = Setting.of(options(given))
    recipe = setting.resolved(base)
    values = {one.key: list(one.values) for one in flips}
    folder = Path(setting.options.out) / f"ablate-{runs.slug(base.text)}-{setting.digest(dump(recipe), values)}"
    flags = [word for text in flip for word in ("--flip", text)]
    typed = command("ablate", [*words, *flags], {**given, "seeds": seeds})
    found = lattice(words, flips, setting.recipe)
    head = Head(expression=base.text, command=typed, protocol=setting.protocol(found, seeds), flip=values)
    table = cells.run(found, setting, head, folder, watch or Watch())
    return tables.write(table, draw(table, ["lattice"]))
