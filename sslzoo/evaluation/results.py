"""What a benchmark, a search and an embedding come to: the objects that ``--json`` prints, as types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ..data.unreadable import UnreadableRow
from ..metrics.probe import Probe
from ..tools.records import Misfit, Record

Interval = tuple[float, float]  # the lower and the upper end
LEFT_OUT = {"optional": True}  # of JSON where it is None


@dataclass(frozen=True)
class Health(Record):
    """Holds label-free numbers of features, as `metrics.health` has them; all None where a feature is not finite."""

    std: float | None = field(default=None, metadata=LEFT_OUT)
    rank: float | None = field(default=None, metadata=LEFT_OUT)
    uniformity: float | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class ProtocolScores(Record):
    """Holds what one protocol gives, in [0, 1], by k ("k1", ...).

    ``knn`` is the accuracy, ``balanced`` the mean of the accuracies of the classes, ``per_class`` these by class, and
    ``top5`` the chance that the class is among the best five, None where there are no more than five classes. Where
    rows have several labels, ``per_class`` is over the queries that have the label, and ``top5`` is None.
    """

    summary: str = field(metadata={"key": "said"})
    knn: Mapping[str, float]
    balanced: Mapping[str, float]
    top5: Mapping[str, float] | None
    per_class: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Retrieval(Record):
    """Holds the means of `metrics.ranking.retrieval` over the queries that have a positive; None where none has one.

    ``queries`` is how many were ranked, and ``without_positive`` how many of these have no positive.
    """

    metrics: Mapping[str, float | None]
    queries: int
    without_positive: int

    def to_json(self) -> dict[str, Any]:
        """Return the metrics by their names, and the two counts beside them."""
        return {**self.metrics, "queries": self.queries, "without_positive": self.without_positive}

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Return the record of such an object. Raises `Misfit`."""
        if not isinstance(content, Mapping):
            raise Misfit("Retrieval is no object")
        counts = {key: content[key] for key in ("queries", "without_positive") if key in content}
        return super().from_json({**counts, "metrics": {k: v for k, v in content.items() if k not in counts}})


@dataclass(frozen=True, kw_only=True)
class IndexRow(Record):
    """Describes an index of faiss beside the exact search.

    ``recall`` is the part of the exact 10 nearest that it finds, ``bytes`` its size, and ``build_seconds`` 0 where it
    was found in a folder. ``knn`` is the accuracy by k of its neighbours, and ``note`` says why it was built anew
    though there was one in the folder, left out elsewhere.
    """

    index: str
    recall: float = field(metadata={"key": "recall@10"})
    queries_per_second: float
    build_seconds: float
    bytes: int
    knn: Mapping[str, float]
    note: str | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow(Record):
    """Describes a source on labelled data.

    ``bank`` and ``queries`` are numbers of rows, and ``leave_one_out`` says whether they are the same rows. ``leaked``
    counts test images that are in the training split too by their content, or of features alone the queries that equal
    rows of the bank (`evaluate.equal_rows`), None where a set is its own bank. ``knn``, by
    k, is the first protocol's accuracy, and ``recall``, by K ("r1", ...), the chance of a row of the class among the
    first K. ``labels`` is how many labels there are where a row may have several of them, left out where it has one.
    ``retrieval`` is left out where it was not wanted. ``interval`` has 95% intervals of the means by name ("sslzoo
    k20", "retrieval map"). ``group`` is shared by runs that differ by their ``seed`` alone; both are None for a source
    that is no run. ``classes`` are the names of the classes 0, 1, ..., left out where nobody gave them any. ``note``
    says what makes the numbers mean less than they seem to, left out where nothing does, and ``about`` what was made of
    a file of weights and done to images.
    """

    source: str
    dimension: int
    health: Health
    bank: int
    queries: int
    leaked: int | None = None
    leave_one_out: bool
    labels: int | None = field(metadata=LEFT_OUT, default=None)
    knn: Mapping[str, float]
    recall: Mapping[str, float]
    protocols: Mapping[str, ProtocolScores]
    retrieval: Retrieval | None = field(metadata=LEFT_OUT, default=None)
    interval: Mapping[str, Interval | None]
    indexes: Sequence[IndexRow]
    probe: Probe | None
    seed: int | None
    group: str | None
    classes: Sequence[str] | None = field(metadata=LEFT_OUT, default=None)
    note: str | None = field(metadata=LEFT_OUT, default=None)
    about: str | None = field(metadata=LEFT_OUT, default=None)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class UnlabelledRow(Record):
    """Describes a source on data without labels, which has health numbers alone."""

    source: str
    dimension: int
    knn: None = None
    recall: None = None
    health: Health
    about: str | None = field(metadata=LEFT_OUT, default=None)
    seconds: float = 0.0


@dataclass(frozen=True)
class Deviation(Record):
    """Holds a mean over runs and its sample deviation."""

    mean: float
    sd: float


@dataclass(frozen=True)
class SeedGroup(Record):
    """Holds the accuracies by k of runs that differ by their seed alone."""

    sources: Sequence[str]
    seeds: Sequence[int | None]
    knn: Mapping[str, Deviation]


@dataclass(frozen=True, kw_only=True)
class Meaning(Record):
    """Says in words and numbers what the scores of a benchmark are: of which protocols, bank, search and votes.

    ``several`` says what is right where rows have several labels, left out where they have one.
    """

    name: str
    names: Sequence[str]
    bank: str
    features: str = "l2-normalised"
    index: str = "faiss, exact inner product"
    weights: str = "exp(similarity / temperature), or one vote each"
    k: Sequence[int]
    temperature: float | None
    ties: str = "rows that float64 cannot tell from the k-th share its votes; m equal classes earn 1/m"
    several: str | None = field(metadata=LEFT_OUT, default=None)
    intervals: str = "95%, bootstrap over the queries"


@dataclass(frozen=True)
class BenchmarkResult(Record):
    """Is what ``sslzoo knn --json`` prints: a row for each source; ``bad`` are images that cannot be read."""

    data: str
    protocol: Meaning
    rows: Sequence[BenchmarkRow | UnlabelledRow]
    bad: Sequence[UnreadableRow]
    groups: Sequence[SeedGroup]


@dataclass(frozen=True)
class Neighbour(Record):
    """Describes one of the nearest images: its number in the split, its file if it has one, and its class.

    ``labels`` are the numbers of all of its labels where images have several, and ``label`` is None then; they are left
    out elsewhere. ``label_name`` is the name of its class, or the names of several, None where there is none. ``right``
    is whether its class is the query's, or whether they share a label, None where one of them has none.
    """

    number: int = field(metadata={"key": "place"})
    file: str | None
    label: int | None
    similarity: float
    distance: float
    right: bool | None
    labels: Sequence[int] | None = field(default=None, metadata=LEFT_OUT)
    label_name: str | None = None


@dataclass(frozen=True)
class QueryResult(Record):
    """Holds an image that was searched for, its class if it has one, and its neighbours, the nearest first.

    ``labels`` and ``label_name`` are as those of a neighbour.
    """

    image: str
    label: int | None
    neighbours: Sequence[Neighbour]
    labels: Sequence[int] | None = field(default=None, metadata=LEFT_OUT)
    label_name: str | None = None


@dataclass(frozen=True)
class SearchResult(Record):
    """Is what ``sslzoo search --json`` prints; ``out`` is the gallery that was written, if any.

    ``about`` is that of `BenchmarkRow`.
    """

    source: str
    data: str
    split: str
    bad: Sequence[UnreadableRow]
    queries: Sequence[QueryResult]
    out: str | None
    about: str | None = field(metadata=LEFT_OUT, default=None)


@dataclass(frozen=True)
class EmbedResult(Record):
    """Is what ``sslzoo embed --json`` prints: the shapes of the arrays in the file ``out``.

    ``about`` is that of `BenchmarkRow`.
    """

    source: str
    data: str
    out: str
    arrays: Mapping[str, Sequence[int]]
    bad: Sequence[UnreadableRow]
    about: str | None = field(metadata=LEFT_OUT, default=None)


@dataclass(frozen=True)
class ShardsResult(Record):
    """Is what ``sslzoo embed --json`` prints of shards: how many there are, and how many this process did.

    ``images`` counts the rows of each split, those without features too; ``written`` are the shards of this process,
    and ``kept`` those of its own that were there before. ``about`` is that of `BenchmarkRow`.
    """

    source: str
    data: str
    out: str
    images: Mapping[str, int]
    columns: int
    shards: int
    written: int
    kept: int
    bad: Sequence[UnreadableRow]
    about: str | None = field(metadata=LEFT_OUT, default=None)
