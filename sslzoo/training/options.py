"""What belongs to one run and not to its method: the options of a person, and of a run's file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self, get_args, get_type_hints

from ..data.given.options import DataOptions
from ..data.unreadable import MAX_SHARE
from ..exchange.weights import Weights
from ..recipes.schema import Value
from ..tools.arguments import WORDS
from ..tools.errors import UserError
from ..tools.records import Misfit, Record, fitted


@dataclass(frozen=True)
class Options(DataOptions):
    """Describes what belongs to one run and not to the method; None leaves it to the recipe, the data or the device."""

    max_bad: float = MAX_SHARE
    epochs: int | None = None
    minutes: float | None = field(default=None, metadata={"optional": True})
    batch_size: int | None = None
    backbone: str | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    out: str = "runs"
    init: str | None = None
    init_network: str | None = field(default=None, metadata={"optional": True})
    knn_every: int | None = None
    eval: str = "val"
    workers: int | None = None
    compile: bool = False
    checkpoint_every: str = "1"
    keep: int = 2
    on_nan: str = "stop"
    accumulate: int = 1
    baselines: bool = True

    def __post_init__(self) -> None:
        """Name the data that are taken where nobody names any."""
        if self.data is None and self.train is None:
            object.__setattr__(self, "data", self.place)

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Return the options that a run's file holds; `surroundings` has the sentence for a value that cannot be.

        Raises `Misfit` for an option that there is not, and without data that are a name.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(content, Mapping) or not content.keys() <= known:
            raise Misfit("options")
        named = content.get("data") if content.get("train") is None else content["train"]
        if type(named) is not str:
            raise Misfit("options")
        return cls(**content)

    @property
    def flags(self) -> dict[str, Value | None]:
        """Return the knobs among them, dotted; None where they are not set."""
        return {f"training.{key}": getattr(self, key) for key in ("epochs", "batch_size", "backbone")}

    def flags_with(self, initial: Weights | None) -> dict[str, Value | None]:
        """Return the knobs with the stem of the backbone that weights in a file tell."""
        if initial is None or self.backbone is None or not Path(self.init or "").exists():
            return self.flags
        return {**self.flags, "training.backbone": initial.backbone}


@dataclass(frozen=True, kw_only=True)
class Extension(Record):
    """Describes how a run that has ended goes on: from epoch ``start`` to ``epochs`` in all.

    ``schedule`` is "cosine", down to the recipe's end of the learning rate, or "constant"; ``rate`` is what of the
    recipe's learning rate it begins at.
    """

    start: int
    epochs: int
    schedule: str
    rate: float

    @property
    def words(self) -> str:
        """The extension in words."""
        how = "a new cosine from" if self.schedule == "cosine" else "a constant"
        return f"goes on beyond epoch {self.start} to {self.epochs}, with {how} {self.rate:g} of the learning rate"


def check_kinds(options: Options) -> None:
    """Raise `UserError` for an option that is not of its kind, as Python or a run's file may have it."""
    for name, kind in get_type_hints(Options).items():
        value = getattr(options, name)
        try:
            fitted(value, kind, name)
        except Misfit:
            word = WORDS[(get_args(kind) or (kind,))[0]]
            raise UserError(f"--{name.replace('_', '-')} cannot be {value!r:.80}; it is {word}.") from None


def interval(text: str) -> tuple[int, float | None]:
    """Read --checkpoint-every and return its epochs, or 0 and its seconds. Raises `UserError`."""
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?) ?m(?:in(?:utes?)?)?", text.strip())
    epochs, minutes = (int(found[1] or 0), float(found[2] or 0)) if found else (0, 0.0)
    if not (epochs or minutes):
        raise UserError(f"--checkpoint-every cannot be {text!r}; it is a number of epochs, or minutes as in 10m.")
    return epochs, minutes * 60 or None
