"""A lattice: every combination of some flipped switches and knobs, each spelled as an expression."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from ..recipes.algebra import Expression, canonical, parse, resolve, tokenize
from ..recipes.knobs import dotted, expand, read_by, read_switch, spelled
from ..recipes.recipe import Recipe, switch_values
from ..recipes.rules import refusal
from ..recipes.schema import SWITCHES, Switches, Value
from ..recipes.values import WORDS, switch_of
from ..tools.errors import UserError, did_you_mean

MAX_CELLS = 10_000  # of a table
Resolve = Callable[[Expression], Recipe]


@dataclass(frozen=True)
class Flip:
    """Describes a switch or a dotted knob, its values, and the word that spells it ("" where each value does)."""

    key: str
    values: tuple[Value, ...]
    word: str


@dataclass(frozen=True)
class Cell:
    """Describes an expression of a table: its switches, and its recipe or the sentence that refuses it.

    ``combinations`` of flipped values are those that it stands for: several, where it reads not all of the flipped
    knobs, and none for a variant of a study, which has a ``label`` and what the paper ``published``.
    """

    text: str
    switches: Switches
    recipe: Recipe | None = None
    refused: str | None = None
    combinations: tuple[tuple[Value, ...], ...] = ()
    label: str = ""
    published: str = ""


@dataclass
class _Base:
    """Describes an expression, split into what a flip may replace and what it leaves alone."""

    name: str
    kept: list[str] = field(default_factory=list)  # signs, words, switch=value and like=NAME
    knobs: dict[str, str] = field(default_factory=dict)  # dotted key -> its word


def read_flips(texts: Sequence[str], base: Switches, name: str) -> list[Flip]:
    """Return the flips that ``--flip a,b,key=x|y`` names, on the base of a name and switches. Raises `UserError`."""
    flips = [_read_flip(item.strip(), base, name) for text in texts for item in text.split(",") if item.strip()]
    if not flips:
        raise UserError("Name what to flip, as in '--flip predictor,stop_gradient'.")
    for i, one in enumerate(flips):
        if one.key in [other.key for other in flips[:i]]:
            raise UserError(
                f"{one.key} is flipped twice; write its values once, as in '--flip \"{_example(one.key)}\"'."
            )
    return flips


def _read_flip(item: str, base: Switches, name: str) -> Flip:
    raw, sign, listed = item.partition("=")
    word = canonical(raw.strip())
    if word == "like":
        raise UserError("like=NAME cannot be flipped; put it into the expression of a table of its own.")
    if sign:
        texts = [text.strip() for text in listed.split("|") if text.strip()]
        if word in SWITCHES:
            made = Flip(word, tuple(read_switch(word, text) for text in texts), "")
        else:
            written = [parse([name, f"{word}={text}"]).written for text in texts or [""]]  # refuses what is no knob
            made = Flip(next(iter(written[0])), tuple(next(iter(one.values())) for one in written), word)
        if len(set(made.values)) < max(2, len(texts)):
            raise UserError(f"{item!r} needs two or more different values, as in '--flip \"{_example(word)}\"'.")
        return made
    switch = word if word in SWITCHES else switch_of(word)
    if switch is None:
        if dotted(word):
            raise UserError(f"{word} is a knob; write its values, as in '--flip \"{_example(word)}\"'.")
        known = sorted({*SWITCHES, *WORDS})
        raise UserError(
            f"There is no switch or value {raw!r} to flip{did_you_mean(word, known)}; they are {', '.join(known)}."
        )
    now, meta = getattr(base, switch), SWITCHES[switch]
    off, usual = meta.off, meta.usual
    other = word if word not in (switch, str(now), str(off)) else off if now != off else usual
    if other is None:
        raise UserError(f"{switch} has no usual value; write '--flip \"{_example(switch)}\"'.")
    return Flip(switch, (now, other), word if word == switch else "")


def _example(key: str) -> str:
    """Return ``key=a|b`` with values that the key takes, as far as they are known."""
    values = SWITCHES[key].values if key in SWITCHES else ("A", "B")
    return f"{key}={'|'.join(str(value).lower() for value in values)}"


def lattice(words: Sequence[str], flips: Sequence[Flip], recipe: Resolve = resolve) -> list[Cell]:
    """Return a cell for every combination of the flips on an expression, the last flip fastest.

    A knob that a cell's switches do not read is left out of it, and cells that are then the same are one cell. Raises
    `UserError` where there are more than `MAX_CELLS`.
    """
    if (count := prod(len(one.values) for one in flips)) > MAX_CELLS:
        raise UserError(
            f"The flips make {count} cells, and a table has at most {MAX_CELLS}; flip fewer switches or values."
        )
    base = _split(words, {one.key for one in flips})
    found: dict[str, Cell] = {}
    for values in product(*(one.values for one in flips)):
        cell = _cell(base, dict(zip([one.key for one in flips], values, strict=True)), flips, recipe)
        same = found.get(cell.text)
        found[cell.text] = replace(cell, combinations=(*(same.combinations if same else ()), values))
    return list(found.values())


def _split(words: Sequence[str], flipped: set[str]) -> _Base:
    name, *rest = tokenize(words)
    base, tokens = _Base(name), iter(rest)
    for token in tokens:
        if token in ("+", "-"):
            word = canonical(next(tokens))
            if WORDS.get(word, word) not in flipped:
                base.kept += [token, word]
        elif (key := canonical(token.partition("=")[0])) in SWITCHES or key == "like":
            base.kept += [] if key in flipped else [token]
        elif (full := next(iter(parse([name, token]).written))) not in flipped:
            base.knobs[full] = token
    return base


def _cell(base: _Base, values: Mapping[str, Value], flips: Sequence[Flip], recipe: Resolve) -> Cell:
    words = [base.name, *base.kept]
    now = switch_values(parse(base.name).switches)
    switches = parse(words, finished=False).switches
    for one in flips:
        if one.key in SWITCHES:
            words += spell(one.key, now[one.key], values[one.key], one.word)
            switches = replace(switches, **{one.key: values[one.key]})  # type: ignore[arg-type]
    knobs = base.knobs | {one.key: f"{one.word}={spelled(values[one.key])}" for one in flips if one.key not in SWITCHES}
    why = refusal(switches)
    if why is not None:
        return Cell(shlex.join(words), switches, refused=why)
    try:
        whole = parse([*words, *knobs.values()])
        known = {
            **switch_values(switches),
            **recipe(replace(whole, written={})).values(),
            **{k: v for key, v in whole.written.items() for k in expand(key)},
        }
        words += [text for key, text in knobs.items() if any(read_by(one, known) for one in expand(key))]
        return Cell(shlex.join(words), switches, recipe(parse(words)))
    except UserError as error:  # a rule beyond the switches, such as a batch too small for them
        return Cell(shlex.join(words), switches, refused=str(error))


def spell(switch: str, now: Value, value: Value, word: str = "") -> list[str]:
    """Return the words that turn a switch from one value to another; its name stands for it where that is ``word``."""
    meta = SWITCHES[switch]
    if value == now:
        return []
    if value == meta.off:
        return ["-", switch if word == switch or isinstance(now, bool) else str(now)]
    return ["+", switch if isinstance(value, bool) or (word == switch and value == meta.usual) else str(value)]


def plain_name(key: str) -> str:
    """Return a switch's or a dotted knob's name in words: "predictor lr scale" of "optimizer.predictor_lr_scale"."""
    return key.rpartition(".")[2].replace("_", " ")


def in_words(key: str, value: Value) -> str:
    """Return a value in words: ``no predictor``, ``stop gradient``, ``target momentum``, ``tau 0.9``."""
    name = plain_name(key)
    off = value is False or value == "none"  # 0 equals False
    return name if value is True else f"no {name}" if off else f"{name} {spelled(value)}"
