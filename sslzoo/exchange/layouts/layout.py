"""What a layout of weights is: the keys by which it is told, and how it becomes timm's."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...tools.errors import UserError

State = dict[str, Tensor]
USUAL_HEADS = "usual"  # of a net whose name tells their number


@dataclass(frozen=True)
class Fit:
    """Describes a network's weights by the names of timm's model: the backbone that they fit, and what is left over.

    ``size`` is that of a view in px, ``left`` are the keys of heads, which are no part of a backbone, and ``notes`` say
    what the shapes cannot tell.
    """

    state: State = field(repr=False)
    backbone: str
    size: int
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Layout(ABC):
    """Is a way of naming weights, told by keys that all of its networks have; ``words`` say which it is."""

    words: str
    anchors: Sequence[str]

    def is_below(self, prefix: str, keys: "set[str] | Mapping[str, Any]") -> bool:
        """Return whether a network of this layout lies below a prefix of keys."""
        return all(f"{prefix}{anchor}" in keys for anchor in self.anchors)

    @abstractmethod
    def fit(self, state: State, config: Mapping[str, Any]) -> Fit:
        """Return the network of a state dict, and of a config.json beside it. Raises `Unknown`."""


class Unknown(UserError):
    """Weights whose layout is known fit no backbone that is known; the message says which key, and why."""


def numbered(state: State, prefix: str) -> list[int]:
    """Return the numbers that come next below a prefix of keys, in order."""
    found = {key[len(prefix) :].partition(".")[0] for key in state if key.startswith(prefix)}
    return sorted(int(number) for number in found if number.isdecimal())
