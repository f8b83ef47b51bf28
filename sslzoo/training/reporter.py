"""Who is told of a run as it goes: a screen, a table of runs; without torch, so that a screen starts at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plan import Plan


class Reporter:
    """Told what happens; this one says nothing, and the screen is another."""

    def begin(self, plan: "Plan", run: Path, epoch: int) -> None: ...

    def warn(self, sentence: str) -> None: ...

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None: ...

    def epoch(self, row: dict[str, Any], epochs: int) -> None: ...

    def end(self, result: dict[str, Any]) -> None: ...
