"""Callbacks: a person's own Python that hears of a run as it goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...tools.errors import UserError, did_you_mean, listing
from .reporter import LogRow, Reporter, Result

if TYPE_CHECKING:
    from ..plan import Plan

HEARD = ("on_step", "on_epoch", "on_evaluation")


@dataclass(frozen=True)
class Step:
    """Describes a step that was made: number ``step`` of ``steps``, of an epoch, all from 1.

    ``images_per_second`` is the run's speed so far.
    """

    epoch: int
    step: int
    steps: int
    images_per_second: float
    mean_loss: Callable[[], float] = field(repr=False)

    @property
    def loss(self) -> float:
        """Return the mean loss of the epoch's steps so far; on a GPU it waits for the step."""
        return self.mean_loss()


@dataclass(frozen=True)
class Evaluation:
    """Describes kNN of the encoder after an epoch: accuracies in [0, 1] by k ("k20", ...), on "val" or "test".

    While a run goes on there is k = 20 alone, on a part of the training images unless ``eval="test"``; at its end there
    are all, on the test split.
    """

    epoch: int
    split: str
    knn: Mapping[str, float]


class Callback:
    """Is what `sslzoo.train` tells of a run; any object with one of these methods does. The first process tells it."""

    def on_step(self, step: Step) -> None:
        """Hear of a step."""

    def on_epoch(self, row: LogRow) -> None:
        """Hear of an epoch that has ended: its row of log.csv."""

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Hear of kNN that was measured."""


class Callbacks(Reporter):
    """Tells callbacks what a reporter hears, after it."""

    def __init__(self, reporter: Reporter, callbacks: Sequence[object]):
        self.reporter, self.callbacks, self.split = reporter, callbacks, "val"
        for one in callbacks:
            check(one)

    def tell(self, name: str, what: object) -> None:
        """Call a method of those that have it."""
        for one in self.callbacks:
            if (method := getattr(one, name, None)) is not None:
                method(what)

    def begin(self, plan: "Plan", run: Path, epoch: int) -> None:
        """Hear that a plan is trained."""
        self.split = plan.options.eval
        self.reporter.begin(plan, run, epoch)

    def warn(self, sentence: str) -> None:
        """Hear what a person should know."""
        self.reporter.warn(sentence)

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None:
        """Hear of a step."""
        self.reporter.step(epoch, done, steps, loss, speed)
        self.tell("on_step", Step(epoch + 1, done, steps, speed, loss))

    def epoch(self, row: LogRow, epochs: int) -> None:
        """Hear of an epoch."""
        self.reporter.epoch(row, epochs)
        self.tell("on_epoch", row)
        if row.knn is not None:
            self.tell("on_evaluation", Evaluation(row.epoch, self.split, {"k20": row.knn}))

    def end(self, result: Result) -> None:
        """Hear what came of the run."""
        self.reporter.end(result)
        if result.knn is not None:
            self.tell("on_evaluation", Evaluation(result.epochs, "test", result.knn))


def check(callback: object) -> None:
    """Raise `UserError` for an object that hears nothing, or whose method's name is nearly one."""
    own = [name for name in dir(callback) if name.startswith("on_")]
    if wrong := [name for name in own if name not in HEARD]:
        raise UserError(
            f"Nothing calls {type(callback).__name__}.{wrong[0]}{did_you_mean(wrong[0], HEARD)}; a callback has "
            f"{listing(HEARD)}."
        )
    if not own:
        raise UserError(f"{callback!r:.80} is no callback; give objects with a method {listing(HEARD)}.")
    for name in own:
        if not callable(getattr(callback, name)):
            raise UserError(f"{type(callback).__name__}.{name} cannot be called; let it be a method of one argument.")


def listening(reporter: Reporter | None, callbacks: Sequence[object]) -> Reporter:
    """Return who hears of a run: a reporter, and callbacks behind it. Raises `UserError` for what cannot hear."""
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        raise UserError(f"callbacks cannot be {callbacks!r:.80}; give a list of them.")
    return Callbacks(reporter or Reporter(), callbacks) if callbacks else reporter or Reporter()
