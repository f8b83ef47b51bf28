"""Values of the schema: names spelled out, values checked, and whether anything reads them."""

from collections.abc import Mapping
from math import inf
from sys import float_info
from types import UnionType
from typing import Any, get_args

from ..tools.errors import UserError, did_you_mean, listing
from .schema import KNOBS, PIPELINES, SWITCHES, VIEW_KEYS, Value, When
from .values import discover, readers

OF_TRANSFORMERS = ("vit_", "deit", "flexivit", "beit", "eva")  # how timm's names of these begin


def spelled(value: Value) -> str:
    """Return a value as an expression spells it, to its last digit."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def defaults(scale: str) -> dict[str, Value]:
    """Return every knob's default at a scale."""
    values: dict[str, Any] = {k: f.default if scale == "small" else f.metadata["large"] for k, f in KNOBS.items()}
    return values


def expand(key: str) -> list[str]:
    """The knobs that a dotted key sets: ``views.hue`` stands for all views' hue. Raises `UserError` for others."""
    if key in KNOBS:
        return [key]
    table, _, name = key.partition(".")
    if table == "views" and name in VIEW_KEYS:
        return [f"views.{pipeline}.{name}" for pipeline in PIPELINES]
    known = [*KNOBS, *(f"views.{name}" for name in VIEW_KEYS)]
    raise UserError(f"There is no knob {key!r}{did_you_mean(key, known)}; 'sslzoo methods show NAME' lists them.")


def dotted(word: str) -> list[str]:
    """The dotted keys that a plain word may mean, or the word itself where it is dotted."""
    if "." in word:
        return [word]
    return [key for key in KNOBS if key.count(".") == 1 and key.endswith(f".{word}")] + (
        [f"views.{word}"] if word in VIEW_KEYS else []
    )


def read_switch(name: str, value: object) -> str | bool:
    """Return a switch's value, checked."""
    values = SWITCHES[name].values
    if value not in values and discover():  # a package that is installed has more
        values = SWITCHES[name].values
    if isinstance(values[0], bool) and isinstance(value, str):
        value = {"true": True, "false": False}.get(value, value)
    if type(value) is type(values[0]) and value in values:
        return value
    allowed = [str(v).lower() for v in values]
    raise UserError(f"{name} cannot be {value!r}{did_you_mean(str(value), allowed)}; it is {listing(allowed)}.")


def read_knob(key: str, value: object) -> Value:
    """Return a knob's value from TOML or from a word of an expression, checked for type and bounds."""
    f = KNOBS[expand(key)[0]]
    kinds = get_args(f.type) if isinstance(f.type, UnionType) else (f.type,)
    meta = f.metadata
    if isinstance(value, str) and kinds != (str,):
        value = _parse(value, kinds)
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        value = float(value) if abs(value) <= float_info.max else inf if value > 0 else -inf
    if type(value) not in kinds:
        raise UserError(f"{key} cannot be {value!r}; it is {listing(k.__name__ for k in kinds)}.")
    if isinstance(value, str) and meta["choices"] and value not in meta["choices"]:
        allowed = listing([*(k.__name__ for k in kinds if k is not str), *meta["choices"]])
        raise UserError(f"{key} cannot be {value!r}{did_you_mean(value, meta['choices'])}; it is {allowed}.")
    low, high = meta["low"], meta["high"]
    most = float_info.max if high is None else high
    if isinstance(value, int | float) and low is not None and not low <= value <= most:
        least = f"finite and at least {low}" if isinstance(value, float) else f"at least {low}"
        raise UserError(f"{key} cannot be {value}; it is {least if high is None else f'from {low} to {high}'}.")
    return value  # type: ignore[return-value]


def _parse(text: str, kinds: tuple[type, ...]) -> object:
    if bool in kinds:
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def hold(key: str, value: Value, low: Value, high: Value) -> Value:
    """Return a value within [low, high]; those of a knob with choices in the order of these."""
    place: Any = KNOBS[key].metadata["choices"].index if isinstance(value, str) else float
    return min(max(value, low, key=place), high, key=place)


def read_by(key: str, values: Mapping[str, Any]) -> bool:
    """Return whether a knob is read under these switches and knobs (one flat mapping of both)."""
    if key.startswith("views.local") and key != "views.local_crops":
        return bool(values.get("views.local_crops", 0))
    when, above = KNOBS[key].metadata["when"], KNOBS[key].metadata["above"]
    if above is not None and not values.get(above[0], above[1]) > above[1]:
        return False
    asked = {**readers(key), **(when or {})}
    return not asked or any(
        values[name] in allowed and (name not in KNOBS or read_by(name, values)) for name, allowed in asked.items()
    )


def reason(key: str) -> str:
    """What would have to hold for a knob to be read, for the sentence that refuses it."""
    if key.startswith("views.local"):
        return "views.local_crops is at least 1"
    when: When = {**readers(key), **(KNOBS[key].metadata["when"] or {})}
    above = KNOBS[key].metadata["above"]
    if above is not None:
        return f"{above[0]} is above {above[1]}"
    return " or ".join(f"{name} is {listing(str(v).lower() for v in allowed)}" for name, allowed in when.items())


def is_transformer(backbone: str) -> bool:
    """Return whether a backbone is a vision transformer, by its name."""
    return backbone.startswith(OF_TRANSFORMERS)
