"""Ablations: an expression's lattice, trained over seeds, in one folder with its table and its picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..recipes.algebra import parse
from ..recipes.recipe import dump
from ..training import runs
from ..training.plan import Options
from . import cells, pictures, tables
from .cells import Setting, command
from .lattice import lattice, read_flips
from .watch import Watch


def ablate(
    words: str | Sequence[str], flip: Sequence[str], seeds: int = 1, watch: Watch | None = None, **options: Any
) -> dict[str, Any]:
    """Train every combination of the flipped switches and return what ``sslzoo ablate --json`` prints.

    ``options`` are those of `plan.Options` but for ``seed``. Finished runs are kept in the folder below ``out`` and not
    run again. Raises `UserError`.
    """
    words = [words] if isinstance(words, str) else list(words)
    base = parse(words, finished=False)  # the cells are
    flips = read_flips(flip, base.switches, base.base.name)
    setting = Setting.of(Options(**options))
    recipe = setting.resolved(base)
    values = {one.key: list(one.values) for one in flips}
    folder = Path(setting.options.out) / f"ablate-{runs.slug(base.text)}-{setting.digest(dump(recipe), values)}"
    flags = [word for text in flip for word in ("--flip", text)]
    typed = command("ablate", [*words, *flags], {**options, "seeds": seeds})
    table = lattice(words, flips, setting.recipe)
    head = {"expression": base.text, "flip": values, "command": typed, **setting.head(table, seeds)}
    result = cells.run(table, setting, head, folder, watch or Watch())
    tables.write(result, pictures.drawn(result, "lattice"))
    return result
