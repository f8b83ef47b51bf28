"""Recipes: method files read strictly, and layers of values resolved to one frozen `Recipe`."""

import os.path
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from ..tools.bounds import SMALLEST
from ..tools.errors import UserError, did_you_mean, listing
from ..tools.places import shipped
from ..tools.toml import read_toml, to_toml
from .knobs import defaults, expand, hold, read_by, read_knob, read_switch, reason
from .schema import (
    KNOBS,
    PIPELINES,
    SCALES,
    SWITCHES,
    TABLES,
    Clustering,
    Encoder,
    Heads,
    Loss,
    Memory,
    Negatives,
    Normalize,
    Optimizer,
    Switches,
    Target,
    Training,
    Value,
    View,
    Views,
)

METHODS = shipped("methods", "methods")
HEADER = {"title": str, "paper": str, "idea": str, "variant_of": str, "hub": bool}
TRANSFORMERS = "vit"  # the table of what a vision transformer has
DEEPEST = 8  # tables in tables
KINDS = {str: "a text", bool: "true or false", dict: "a table"}

Knobs = dict[str, Value]
Ranges = Mapping[str, tuple[Value, Value]]  # lowest and highest


@dataclass(frozen=True)
class Method:
    """Holds a method file: ten switches, and for each scale the knobs that differ from the schema.

    ``tables`` has a flat mapping of dotted knobs for "small" and for "large"; for "small.tuned" and "large.tuned", what
    these hold instead where data or a device bring an optimiser, which was tuned with that; for "vit", what a vision
    transformer has; and under "" those of the file's plain tables, which hold at both scales and have the last word
    over a data set's defaults (a run's own recipe is such).
    """

    name: str
    switches: Switches
    tables: Mapping[str, Knobs]
    title: str = ""
    paper: str = ""
    idea: str = ""
    variant_of: str = ""
    hub: bool = False

    def at(self, scale: str, tuned: bool) -> Knobs:
        """Return a scale's knobs, for its own optimiser or (``tuned``) for one that data or a device bring."""
        return {**self.tables[scale], **(self.tables[f"{scale}.tuned"] if tuned else {})}


@dataclass(frozen=True)
class Recipe:
    """All that makes a training run: the switches, and every knob's value at one scale.

    ``origins`` says for each dotted knob that the switches read where its value comes from; ``dropped`` names the knobs
    of the base that the changed switches no longer read; ``written`` those that the expression wrote.
    """

    expression: str
    method: str | None
    switches: Switches
    scale: str
    encoder: Encoder
    heads: Heads
    optimizer: Optimizer
    target: Target
    memory: Memory
    negatives: Negatives
    clustering: Clustering
    normalize: Normalize
    loss: Loss
    views: Views
    training: Training
    origins: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    @property
    def learning_rate(self) -> float:
        """Return the effective learning rate: base x batch / 256 (Goyal et al. 2017, linear scaling)."""
        return self.optimizer.lr * self.training.batch_size / 256

    def reads(self, key: str) -> bool:
        """Return whether the switches read a knob; state that a knob describes exists where it is read."""
        return key in self.origins

    def knobs(self) -> Knobs:
        """Return the knobs that the switches read, dotted, with their values."""
        return {key: value for key, value in self.values().items() if key in self.origins}

    def values(self) -> Knobs:
        """Return every knob, read or not, dotted, with its value."""
        found: Knobs = {}
        for key in KNOBS:
            at: Any = self
            for part in key.split("."):
                at = getattr(at, part)
            found[key] = at
        return found


def described(recipe: Recipe) -> Knobs:
    """Return the knobs that the switches read, those that all views share written once."""
    knobs = recipe.knobs()
    for key in [key for key in knobs if key.startswith("views.first.")]:
        name = key.rpartition(".")[2]
        same = [k for k in (f"views.{p}.{name}" for p in ("first", "second", "local")) if k in knobs]
        if len({knobs[k] for k in same}) == 1:
            value = knobs[same[0]]
            for k in same:
                del knobs[k]
            knobs[f"views.{name}"] = value
    return knobs


def switch_values(switches: Switches) -> dict[str, Any]:
    """Return the switches as a plain mapping, in their order."""
    return {name: getattr(switches, name) for name in SWITCHES}


def nested(knobs: Mapping[str, Value]) -> dict[str, Any]:
    """Return dotted knobs as tables in tables."""
    tables: dict[str, Any] = {}
    for key, value in knobs.items():
        *path, name = key.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[name] = value
    return tables


@dataclass(frozen=True)
class Layer:
    """Knobs that somebody asks for, and ranges that others are held within; ``origin`` says who does."""

    origin: str
    knobs: Mapping[str, Value] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)

    @classmethod
    def read(cls, origin: str, tables: Mapping[str, Any]) -> Self:
        """Return what tables ask for: [low, high] is a range, and any other value sets a knob. Raises `UserError`."""
        knobs: Knobs = {}
        ranges: dict[str, tuple[Value, Value]] = {}
        for key, value in sorted(_flat(tables), key=lambda item: item[0].count(".")):  # those of one view win
            for one in expand(key):
                if isinstance(value, list):
                    ranges[one] = (read_knob(one, value[0]), read_knob(one, value[1]))
                else:
                    knobs[one] = read_knob(one, value)
        return cls(origin, knobs, ranges)


def build(switches: Switches, scale: str, layers: Iterable[Layer], **rest: Any) -> Recipe:
    """A recipe from layers; later layers win, and what no switch reads is left out.

    A layer first holds what is there within its ranges, then sets its knobs. ``rest`` are further fields of `Recipe`.
    """
    values: dict[str, Any] = {**defaults(scale)}
    origins = dict.fromkeys(values, "default")
    for layer in layers:
        for key, (low, high) in layer.ranges.items():
            if (within := hold(key, values[key], low, high)) != values[key]:
                values[key], origins[key] = within, layer.origin
        for key, value in layer.knobs.items():
            for one in expand(key):
                values[one], origins[one] = value, layer.origin
    known = {**switch_values(switches), **values}
    origins = {key: origin for key, origin in origins.items() if read_by(key, known)}
    tree = nested(values)
    for name in PIPELINES:
        tree["views"][name] = View(**tree["views"][name])
    tables = {name: kind(**tree[name]) for name, kind in TABLES.items()}
    return Recipe(switches=switches, scale=scale, origins=origins, **tables, **rest)


# ---- files -----------------------------------------------------------------------------------------------------------


@cache
def method_names() -> tuple[str, ...]:
    """Return the shipped methods, by name."""
    return tuple(sorted(path.stem for path in METHODS.glob("*.toml")))


def find_method(name: str) -> Method:
    """Return a shipped method by name, or a person's own file. Raises `UserError` for neither."""
    plain = name.replace("-", "_").lower()
    if plain in method_names():
        return read_method(METHODS / f"{plain}.toml")
    path = Path(os.path.expanduser(name))
    if path.suffix == ".toml" or os.path.isfile(path):
        return read_method(path)
    raise UserError(f"There is no method {name!r}{did_you_mean(plain, method_names())}; 'sslzoo methods' lists them.")


def read_method(path: Path) -> Method:
    """Read a method file, strictly: every key known, of its type, within bounds, and read by the file's switches."""
    name = path.stem if path.parent == METHODS else str(path)
    return read_toml(path, f"'sslzoo methods copy NAME {path}' starts one", lambda content: parse_method(name, content))


def parse_method(name: str, content: Mapping[str, Any]) -> Method:
    """Return a method from a TOML file's content. Raises `UserError`."""
    known = [*HEADER, "switches", *SCALES, TRANSFORMERS, *TABLES]
    for key, value in content.items():
        if key not in known:
            raise UserError(f"Unknown key {key!r}{did_you_mean(key, known)}; it can be {listing(known)}.")
        if not isinstance(value, HEADER.get(key, dict)):
            raise UserError(f"{key!r} has to be {KINDS[HEADER.get(key, dict)]}.")
    header = {key: content[key] for key in HEADER if key in content}
    switches = _read_switches(content.get("switches", {}))
    written = {"": {key: content[key] for key in TABLES if key in content}, TRANSFORMERS: content.get(TRANSFORMERS, {})}
    for scale in SCALES:
        own = dict(content.get(scale, {}))
        written[f"{scale}.tuned"] = own.pop("tuned") if isinstance(own.get("tuned"), dict) else {}
        written[scale] = own
    tables = {place: _read_tables(table) for place, table in written.items()}
    if any("views.size" in table for place, table in tables.items() if place):
        raise UserError("views.size says which scale a run has, and cannot depend on it; write it into [views].")
    method = Method(name, switches, tables, **header)
    merged = {
        f"{s}.tuned" if tuned else s: {**switch_values(switches), **defaults(s), **method.at(s, tuned), **tables[""]}
        for s in SCALES
        for tuned in (False, True)
    }
    merged[TRANSFORMERS] = {**merged["large"], **tables[TRANSFORMERS]}
    for place, table in written.items():
        for key, _ in _flat(table):
            scales = [place] if place else SCALES
            if not any(read_by(one, merged[s]) for one in expand(key) for s in scales):
                raise UserError(f"{key} is not read by these switches: it is read where {reason(key)}.")
    for values in merged.values():
        check_crops(values)
    return method


def check_size(size: int) -> None:
    """Raise `UserError` for a view's size in px that is too small."""
    if 0 < size < SMALLEST:
        raise UserError(f"views.size cannot be {size}; it is at least {SMALLEST}, or 0 for the images' own.")


def check_crops(values: Mapping[str, Any]) -> None:
    """Raise `UserError` for views whose smallest crop is larger than their largest, or that are too small."""
    check_size(values["views.size"])
    for view in PIPELINES:
        low, high = (f"views.{view}.scale_{end}" for end in ("min", "max"))
        if values[low] > values[high]:
            raise UserError(
                f"{low} ({values[low]:g}) is above {high} ({values[high]:g}); lower scale_min or raise scale_max."
            )


def _read_switches(table: Mapping[str, Any]) -> Switches:
    """Return the switches of a file's table; one that it does not name is off. Raises `UserError`."""
    for name in table:
        if name not in SWITCHES:
            raise UserError(f"Unknown switch {name!r}{did_you_mean(name, SWITCHES)}; it can be {listing(SWITCHES)}.")
    if not table:
        raise UserError('There is no table [switches]; name in it the switches that are on, as in predictor = "mlp".')
    return Switches(**{name: read_switch(name, value) for name, value in table.items()})  # type: ignore[arg-type]


def _read_tables(tables: Mapping[str, Any]) -> Knobs:
    """Return a file's tables, flat; keys of all views come before those of one view, so that the latter win."""
    found: Knobs = {}
    for key, value in sorted(_flat(tables), key=lambda item: item[0].count(".")):
        for one in expand(key):
            found[one] = read_knob(one, value)
    return found


def _flat(tables: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    if prefix.count(".") > DEEPEST:
        raise UserError(f"The table {prefix[:40]!r} lies too deep; 'sslzoo methods show NAME' lists the knobs.")
    items: list[tuple[str, Any]] = []
    for key, value in tables.items():
        items += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return items


def dump(recipe: Recipe, **header: str) -> str:
    """Return a recipe as the text of a method file, which loads to the same values on any data."""
    return to_toml({**header, "switches": switch_values(recipe.switches), **nested(recipe.knobs())})


def differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two recipes' tables, as `dump` writes them, differ in what both or the first alone has.

    The second may be of a later version, which has more knobs.
    """
    for key, value in one.items():
        if isinstance(value, Mapping):
            if differ(value, other.get(key, {})):
                return True
        elif key not in HEADER and other.get(key) != value:
            return True
    return False
