"""The functions of the switches' values, found at their first use, and what each switch's functions are given.

| switch | its function |
|---|---|
| predictor | ``make(heads) -> nn.Module``, which maps [N, dim] to [N, dim] |
| target | ``make(knobs)`` with ``after_step(copy, online, step, steps)`` and ``begin_epoch(copy, online)`` |
| negatives | ``loss(q, k, others, temperature, knobs) -> scalar``, q and k [N, dim], others an `Others` |
| clustering | ``make(knobs, samples)``, a `Codes` |
| positive | ``target(k, index, memories, read) -> [N, dim]``, k [N, dim], memories a `Memories` |
| normalize | ``map(x, knobs) -> [N, dim]``, x [N, dim] |
| similarity | ``loss(q, k) -> scalar``, q and k [N, dim] |
| regularizer | ``loss(views, pairs, knobs) -> scalar``: projections [N, dim] of each view, (q, target) of each pair |
"""

from importlib import import_module
from typing import Any

from ..recipes.schema import Switches
from ..recipes.values import Word, value_of


def chosen(switches: Switches, switch: str) -> Any:
    """Return the function of the value that a switch has; None for one that adds nothing."""
    return function(switch, getattr(switches, switch))


def made(switches: Switches, switch: str, *given: object) -> Any:
    """Return what the function of the value that a switch has makes; None for one that adds nothing."""
    make = chosen(switches, switch)
    return None if make is None else make(*given)


def function(switch: str, word: Word) -> Any:
    """Return the function of a value, imported where its declaration names a place."""
    found = value_of(switch, word).function
    if not isinstance(found, str):
        return found
    if not found:
        return None
    module, _, name = found.partition(":")
    return getattr(import_module(f"..{module}", __package__), name)
