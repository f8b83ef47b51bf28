"""What a run says: a row of numbers an epoch and its result, and who hears of it; without torch, to start at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...tools.records import Record

if TYPE_CHECKING:
    from ..plan import Plan

ALWAYS = ("knn",)  # a number that every row has a column for, also where there is none


@dataclass(frozen=True, kw_only=True)
class LogRow(Record):
    """Describes an epoch of a run: a row of log.csv, whose columns are the numbers that there are.

    ``loss`` is the mean of the epoch's steps, and ``std`` to ``code_usage`` are the means of what `metrics.health` says
    of some of them; ``lr`` is the learning rate of the step to come. ``skipped`` counts the steps left out with
    ``--on-nan skip``, and ``knn`` is the accuracy at k = 20, in [0, 1], after the epochs that are evaluated.
    """

    epoch: int
    loss: float
    std: float
    rank: float
    alignment: float | None = None
    uniformity: float | None = None
    code_entropy: float | None = None
    code_usage: float | None = None
    lr: float
    images_per_second: float
    skipped: int | None = None
    knn: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers that there are, by the names of their columns."""
        return {key: value for key, value in super().to_json().items() if value is not None or key in ALWAYS}


@dataclass(frozen=True, kw_only=True)
class Result(Record):
    """Describes what came of a run: what ``sslzoo train --json`` prints, and what knn.json holds.

    ``run`` is the run's directory; ``method`` is the shipped method that the ``switches`` are, or None. ``epochs`` have
    been trained; ``loss`` to ``rank`` and ``alignment`` to ``code_usage`` are the last one's, the codes' None where
    there are none. ``knn`` has the accuracies in [0, 1] on the test split by k ("k1", ...), and beside it stand k = 20
    of raw pixels, of the untrained backbone and of colour histograms, the last None where images are gray; all are None
    without labels. ``leaked`` counts the test images that are in the training split too, None without labels, and
    ``notes`` say what makes kNN mean less than it seems to. ``seconds`` are those since the process began, and
    ``advice`` is what a person should try.
    """

    run: str
    expression: str
    method: str | None
    switches: Mapping[str, str | bool]
    data: str
    epochs: int
    loss: float
    std: float
    rank: float
    knn: Mapping[str, float] | None
    raw_knn: float | None
    random_knn: float | None
    colour_knn: float | None = None
    leaked: int | None = None
    notes: Sequence[str] = ()
    seconds: float
    images_per_second: float
    alignment: float | None
    uniformity: float | None
    code_entropy: float | None
    code_usage: float | None
    advice: Sequence[str]

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key of the JSON, as in ``sslzoo.train(...)["run"]``."""
        return self.to_json()[key]


class Reporter:
    """Hears of a run as it goes; this one says nothing of it, and the screen is another."""

    def begin(self, plan: "Plan", run: Path, epoch: int) -> None:
        """Hear that a plan is trained in the directory ``run``, from after epoch ``epoch`` on."""

    def warn(self, sentence: str) -> None:
        """Hear what a person should know."""

    def step(self, epoch: int, done: int, steps: int, loss: Callable[[], float], speed: float) -> None:
        """Hear of a step: ``done`` of ``steps`` of an epoch, at ``speed`` images a second.

        ``loss()`` is the epoch's mean so far; it waits for the device.
        """

    def epoch(self, row: LogRow, epochs: int) -> None:
        """Hear of an epoch that has ended, of ``epochs`` in all."""

    def end(self, result: Result) -> None:
        """Hear what came of the run."""
