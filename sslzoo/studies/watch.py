"""Who is told of a table of runs as it goes; without torch, so that a screen starts at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..training.reporter import LogRow
from .lattice import Cell


class Watch:
    """Told how the runs go; this one says nothing, and the screen is another."""

    def begin(self, head: Mapping[str, Any], cells: Sequence[Cell], todo: int, kept: int) -> None: ...

    def start(self, cell: Cell, seed: int, number: int, todo: int) -> None: ...

    def epoch(self, row: LogRow, epochs: int) -> None: ...

    def end(self, cell: Cell, record: dict[str, Any], number: int, todo: int) -> None: ...
