"""Who hears of a table of runs as it goes; without torch, so that a screen starts at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .lattice import Cell
from .results import Head

if TYPE_CHECKING:
    from .store import EndedRun


class Watch:
    """Hears how the runs of a table go, and does nothing; a screen overrides what it shows."""

    def begin(self, head: Head, cells: Sequence[Cell], todo: int, kept: int) -> None:
        """Hear that so many runs of the cells are to be trained, and that so many are kept from before."""

    def note(self, sentence: str) -> None:
        """Hear what a person should know of the table, and may not have meant so."""

    def start(self, cell: Cell, seed: int, number: int, todo: int) -> None:
        """Hear that a run starts, the ``number``-th of those to do, from 1."""

    def epoch(self, epoch: int, epochs: int) -> None:
        """Hear that an epoch of the run has ended, from 1."""

    def end(self, cell: Cell, run: "EndedRun", number: int, todo: int) -> None:
        """Hear that a run has ended, and what it came to."""
