"""What a table of runs holds, as records: its head, its cells, what ranks them; printed and kept as one JSON object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ..recipes.schema import Value
from ..tools.records import Record, plain

# ---- what is known before the first run ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Protocol(Record):
    """Describes what all numbers of a table depend on; None is what differs between its cells.

    ``images`` are those of training, ``image_size`` is in pixels, and ``versions`` are those of the packages.
    """

    data: str
    epochs: int | None
    seeds: int
    batch_size: int | None
    backbone: str | None
    images: int
    image_size: int
    device: str
    precision: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Paper(Record):
    """Describes the table of a paper that a study is about; ``url`` is the paper's."""

    study: str
    title: str
    question: str
    url: str = field(metadata={"key": "paper"})


@dataclass(frozen=True, kw_only=True)
class Head(Record):
    """Describes a table before it has runs: its base or first variant, the command that makes it, and its protocol.

    ``flip`` has the flipped keys with their values, None where there are variants. ``paper`` is a study's, and ``note``
    is the sentence that says where its table is not the one of its file. In JSON all are keys of one object.
    """

    expression: str
    command: str
    protocol: Protocol
    flip: Mapping[str, Sequence[Value]] | None = None
    paper: Paper | None = None
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all as one object, in the order that JSON has had since the first version."""
        flip = {} if self.flip is None else {"flip": plain(self.flip)}
        if self.paper is None:
            return {"expression": self.expression, **flip, "command": self.command, **self.protocol.to_json()}
        both = {"expression": self.expression, "command": self.command}
        return {**self.paper.to_json(), **both, **self.protocol.to_json(), **flip, "note": self.note}

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Return the head that a JSON object holds, whose keys are those of its parts too. Raises `Misfit`."""
        if not isinstance(content, Mapping):
            return super().from_json(content)
        paper = {"paper": content if "study" in content else None}
        return super().from_json({**content, "protocol": content, **paper})


# ---- what is known after it ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread(Record):
    """Describes a number over seeds: mean, sample deviation (None for a single run) and the number of runs."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Result(Record):
    """Describes a cell with what its runs came to; None and empty where it is refused, or has no runs yet.

    The numbers are means over the runs that did not diverge: ``knn`` is the accuracy on the test split, k = 20, last
    epoch; ``random_knn`` that of the untrained backbone, ``raw_knn`` that of raw pixels; ``std`` is times sqrt(d);
    ``scores`` are label-free. ``combinations`` of flipped values are those that the cell stands for, ``guards`` what is
    known to prevent collapse, ``diverged`` the number of runs whose loss is no longer finite, ``seconds`` the
    mean time of a run, ``run`` the first of the run directories, ``notes`` what makes kNN mean less than it seems to.
    """

    label: str
    published: str | None
    expression: str
    switches: Mapping[str, str | bool]
    combinations: tuple[tuple[Value, ...], ...] = field(metadata={"key": "at"})
    refused: str | None
    knn: Spread | None
    random_knn: float | None
    raw_knn: float | None
    std: float | None
    rank: float | None
    loss: float | None
    scores: Mapping[str, float | None]
    guards: Sequence[str]
    verdict: str | None
    diverged: int
    seconds: float | None
    run: str | None
    runs: Sequence[str]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Order(Record):
    """Describes how a paper ranks ``n`` cells: Spearman's correlation of its numbers with kNN, None if constant."""

    spearman: float | None
    n: int


@dataclass(frozen=True)
class Scoreboard(Record):
    """Describes how label-free scores rank ``n`` cells: Spearman's correlation of each with kNN, None if constant.

    In JSON the scores are keys of one object, beside "n".
    """

    n: int
    spearman: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return the number of cells and the correlations as one object."""
        return {"n": self.n, **self.spearman}

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Return the scoreboard that a JSON object holds. Raises `Misfit`."""
        if not isinstance(content, Mapping):
            return super().from_json(content)
        return super().from_json({**content, "spearman": {key: rho for key, rho in content.items() if key != "n"}})


@dataclass(frozen=True, kw_only=True)
class Table(Record):
    """Describes a table of runs: what ``sslzoo ablate --json`` and ``sslzoo study --json`` print, and cells.json keeps.

    ``folder`` is the table's own; ``files`` are those in it once they are written. In JSON the head's keys and these
    are keys of one object, without ``files`` as long as there are none.
    """

    head: Head
    folder: str
    cells: Sequence[Result]
    order: Order | None
    scoreboard: Scoreboard | None
    files: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the head and what came of it as one object."""
        content = super().to_json()
        if not self.files:
            del content["files"]
        return {**content.pop("head"), **content}

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Return the table that a JSON object holds, whose keys are those of its head too. Raises `Misfit`."""
        return super().from_json({**content, "head": content} if isinstance(content, Mapping) else content)
