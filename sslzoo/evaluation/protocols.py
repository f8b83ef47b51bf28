"""Protocols of kNN by name, as files: how many neighbours vote, and with what weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ..metrics.knn import COLDEST, TEMPERATURE, Judged, judge
from ..metrics.task import Neighbours, Task
from ..tools.errors import UserError, did_you_mean, listing
from ..tools.places import shipped
from ..tools.records import Record
from ..tools.toml import read_toml

PROTOCOLS = shipped("protocols", "benchmarks/protocols")
USUAL = "sslzoo"


@dataclass(frozen=True)
class Protocol(Record):
    """Says how the nearest rows vote: how many of them, and with what weights.

    With ``weights`` "exp" a vote counts exp(similarity / temperature); with "uniform" each counts one, and there is no
    temperature. Raises `UserError` for numbers out of bounds.
    """

    name: str
    k: tuple[int, ...]
    temperature: float | None
    weights: str
    title: str = ""

    def __post_init__(self) -> None:
        if (
            not self.k
            or any(k < 1 for k in self.k)
            or not (self.temperature is None or COLDEST <= self.temperature < inf)
        ):
            raise UserError(f"-k has to be at least 1 and --temperature at least {COLDEST}, and finite.")

    @property
    def summary(self) -> str:
        """Return the protocol in a line: ``monitor: k = 200, T = 0.1``."""
        weights = "one vote each" if self.temperature is None else f"T = {self.temperature:g}"
        return f"{self.name}: k = {', '.join(map(str, self.k))}, {weights}"


def names() -> list[str]:
    """Return the names of the protocols there are."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.toml"))


def find(name: str) -> Protocol:
    """Return a protocol by its name. Raises `UserError`."""
    if name not in names():
        raise UserError(f"There is no protocol {name!r}{did_you_mean(name, names())}; there are {listing(names())}.")

    def parse(content: Mapping[str, Any]) -> Protocol:
        return Protocol(name, tuple(content["k"]), content.get("temperature"), content["weights"], content["title"])

    return read_toml(PROTOCOLS / f"{name}.toml", f"there are {listing(names())}", parse)


def chosen(named: tuple[str, ...], ks: tuple[int, ...], temperature: float | None) -> list[Protocol]:
    """Return the protocols that options name; -k and --temperature make one named "own". Raises `UserError`."""
    if named and (ks or temperature is not None):
        raise UserError("A protocol sets k and the temperature itself; leave --protocol, or -k and --temperature, out.")
    if named:
        return [find(name) for name in dict.fromkeys(named)]
    usual = find(USUAL)
    if not ks and temperature is None:
        return [usual]
    heat = usual.temperature if temperature is None else temperature
    return [Protocol("own", tuple(dict.fromkeys(ks)) or usual.k, heat, usual.weights)]


def judge_by(
    protocol: Protocol, task: Task, neighbours: Neighbours | None, recall_at: Sequence[int] = (), exact: bool = True
) -> Judged:
    """Return what each query earns by a protocol, as `metrics.knn.judge` does."""
    heat = protocol.temperature or TEMPERATURE
    return judge(task, protocol.k, heat, recall_at, protocol.weights, neighbours, exact)
