"""The algebra: parse an expression, flip switches, refuse what cannot be, and name the method that results."""

import os.path
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..tools.errors import UserError, did_you_mean, listing
from .knobs import defaults, dotted, expand, hold, is_transformer, read_by, read_knob, read_switch, reason
from .presets import OFF, PRESETS
from .recipe import (
    TRANSFORMERS,
    Knobs,
    Layer,
    Method,
    Recipe,
    build,
    check_crops,
    find_method,
    method_names,
    switch_values,
)
from .rules import refuse
from .schema import SWITCHES, Switches, Value
from .values import WORDS, switch_of

LONGEST = 10_000  # letters of an expression
PRESET = "views.preset"
SIZE = "views.size"
FLAGS = {SIZE: "--image-size"}  # options of the command line whose names are not those of their knobs
COLOURS = ("saturation", "hue", "grayscale")  # of a view, which take colours away


@dataclass(frozen=True)
class Expression:
    """Holds a parsed expression: the base, the finished switches, and the knobs that the person wrote."""

    base: Method
    switches: Switches
    text: str
    written: Mapping[str, Value] = field(default_factory=dict)
    like: Method | None = None


def tokenize(words: Iterable[str]) -> list[str]:
    """Tokens of an expression: ``+``, ``-``, words and ``key=value``; glued signs are parted, quoted strings split."""
    tokens: list[str] = []
    for word in words:
        for part in [word] if os.path.isfile(word.removeprefix("like=")) else shlex.split(word):
            sign = part[:1] if part[:1] in ("+", "-") else ""
            tokens += [token for token in (sign, part[len(sign) :]) if token]
    return tokens


def words_of(expression: object) -> list[str]:
    """Return the words of an expression, one text or several. Raises `UserError` for what is none."""
    whole = isinstance(expression, str) or not isinstance(expression, Iterable)
    words: list[Any] = [expression] if whole else [*cast(Iterable[Any], expression)]
    if not all(isinstance(one, str) for one in words):
        raise UserError("An expression is a text or a list of texts, as in 'byol - momentum'.")
    return words


def parse(words: str | Iterable[str], finished: bool = True) -> Expression:
    """Parse and check an expression such as ``byol - momentum like=simsiam``. Raises `UserError`.

    One that is not ``finished``, since words are still to come, is not held to the rules.
    """
    words = words_of(words)
    if (length := sum(map(len, words))) > LONGEST:
        raise UserError(f"An expression cannot have {length:,} letters; it has at most {LONGEST:,}.")
    for one in words:
        if _is_data(one):
            raise UserError(
                f"{one} holds data and is no part of a method; give it with --data {shlex.quote(one)}, as in 'sslzoo "
                "train simsiam --data DATA'."
            )
    try:
        tokens = tokenize(words)
    except ValueError as error:
        raise UserError(f"The expression cannot be read: {str(error).lower()}; close the quote.") from None
    if not tokens or tokens[0] in ("+", "-") or ("=" in tokens[0] and not tokens[0].endswith(".toml")):
        raise UserError("An expression starts with a method's name or file, as in 'byol - momentum'.")
    base = find_method(tokens[0])
    values = switch_values(base.switches)
    knobs: list[tuple[str, str]] = []
    like, text, rest = None, [Path(base.name).stem if "/" in base.name else base.name], iter(tokens[1:])
    for token in rest:
        if token in ("+", "-"):
            word = next(rest, None)
            if word is None:
                raise UserError(f"There is nothing behind {token!r}; name a switch or value, as in '+ momentum'.")
            flip(values, token, word, base.name)
            text += [token, canonical(word)]
        elif "=" in token:
            key, _, value = token.partition("=")
            if key == "like":
                if like is not None:
                    raise UserError(f"like is said twice; leave {token!r} or the other one out.")
                like = find_method(value)
            elif canonical(key) in SWITCHES:
                values[canonical(key)] = read_switch(canonical(key), value)
            else:
                knobs.append((canonical(key), value))
            text.append(token)
        else:
            known = [*SWITCHES, *WORDS]
            raise UserError(
                f"{token!r} needs a sign or a value{did_you_mean(token, known)}, as in '+ momentum' or 'tau=0.99'."
            )
    switches = Switches(**values)
    if finished:
        refuse(switches)
    written = _read_written(knobs)
    return Expression(base, switches, " ".join(text), written, like)


def _is_data(word: str) -> bool:
    """Return whether a word of an expression that nothing is named by is a folder or a file of data."""
    if canonical(word) in (*method_names(), *SWITCHES, *WORDS) or "=" in word or word.endswith(".toml"):
        return False
    return os.path.isdir(os.path.expanduser(word)) or word.lower().endswith(
        (".npz", ".npy", ".tar", ".parquet", ".csv")
    )


def canonical(word: str) -> str:
    """Return ``stop-gradient`` as ``stop_gradient``."""
    return word.replace("-", "_").lower()


def flip(values: dict[str, Any], sign: str, raw: str, base: str) -> None:
    """Apply ``+ word`` or ``- word`` to the switches. Raises `UserError` for what is on or off already."""
    word = canonical(raw)
    name = word if word in SWITCHES else switch_of(word)
    if name is None and len(dotted(word)) == 1 and "." not in word:
        raise UserError(f"There is no switch or value {raw!r}, but a knob; write {raw}=VALUE, without a sign.")
    if name is None:
        known = sorted({*SWITCHES, *WORDS})
        raise UserError(f"There is no switch or value {raw!r}{did_you_mean(word, known)}; they are {', '.join(known)}.")
    switch, now = SWITCHES[name], values[name]
    off, spoken = switch.off, str(now).lower()
    if sign == "+":
        wanted = switch.usual if word == name else word
        if wanted is None:
            raise UserError(f"+ {name} has no usual value; write {name}={listing(switch.values)}.")
        if now == wanted or (word == name and now != off):
            raise UserError(f"{base} has {word} already ({name} is {spoken}); leave '+ {raw}' out.")
        values[name] = wanted
    else:
        if now == off or (word != name and now != word):
            raise UserError(f"{base} has no {word} to remove ({name} is {spoken}); leave '- {raw}' out.")
        values[name] = off


def _read_written(words: Sequence[tuple[str, str]]) -> dict[str, Value]:
    """Return the knobs of an expression, by dotted key; refused where unknown or ambiguous."""
    written: dict[str, Value] = {}
    for key, text in words:
        found = dotted(key)
        if len(found) != 1:
            known = sorted({*SWITCHES, *(name.rsplit(".", 1)[-1] for name in defaults("small"))})
            mend = f"write {listing(found)}" if found else "'sslzoo methods show NAME' lists the knobs"
            raise UserError(f"{key!r} is {'several knobs' if found else 'no knob'}{did_you_mean(key, known)}; {mend}.")
        written[found[0]] = read_knob(found[0], text)
    return written


# ---- names and differences -------------------------------------------------------------------------------------------


def method_with(switches: Switches, base: str | None = None) -> str | None:
    """The shipped method with these switches: the base if it has them, else the one that is no variant of another."""
    shipped = [find_method(name) for name in method_names()]
    same = [method for method in shipped if method.switches == switches]
    if base in [method.name for method in same]:
        return base
    return next((method.name for method in same if not method.variant_of), None)


def diff(a: Switches, b: Switches) -> dict[str, tuple[Any, Any]]:
    """Return the switches in which ``a`` and ``b`` differ, each with both values."""
    left, right = switch_values(a), switch_values(b)
    return {name: (left[name], right[name]) for name in SWITCHES if left[name] != right[name]}


# ---- recipes ---------------------------------------------------------------------------------------------------------


def resolve(
    expression: Expression,
    scale: str = "small",
    layers: Sequence[Layer] = (),
    flags: Mapping[str, Value] | None = None,
) -> Recipe:
    """Return the recipe of an expression: schema < scale table < layers < the file's plain tables < words < flags.

    ``layers`` are what data and device ask for; where they bring an optimiser, the scale table is that which was tuned
    with it. A preset of views comes before the plain tables, which a run's recipe spells out, or where the expression
    names it before the words. ``flags`` are dotted knobs. Where the backbone turns out to be a vision transformer, the
    file's table of these comes after the scale table, and its optimiser after those of data and device, which were
    tuned with other nets. Raises `UserError`.
    """
    source = expression.like or expression.base
    found = _resolved(expression, scale, layers, flags or {}, {})
    own = source.tables[TRANSFORMERS]
    if own and is_transformer(found.training.backbone):
        return _resolved(expression, scale, layers, flags or {}, own)
    return found


def _resolved(
    expression: Expression, scale: str, layers: Sequence[Layer], flags: Mapping[str, Value], transformer: Knobs
) -> Recipe:
    """Return what `resolve` does; ``transformer`` are the knobs of a vision transformer, none for other nets."""
    source = expression.like or expression.base
    table = source.at(scale, tuned=any("optimizer.name" in layer.knobs for layer in layers))
    plain = source.tables[""]
    inherited = {**table, **transformer, **plain}
    named = f"{Path(source.name).stem} ({TRANSFORMERS})"
    optimizer = {key: value for key, value in transformer.items() if key.startswith("optimizer.")}
    recipe = build(
        expression.switches,
        scale,
        [
            Layer(f"{Path(source.name).stem} ({scale})", table),
            Layer(named, transformer),
            *layers,
            Layer(named, optimizer),
            *([] if PRESET in expression.written else preset_of(table, *(one.knobs for one in layers), plain)),
            Layer(Path(source.name).stem, plain),
            *preset_of(expression.written),
            Layer("expression", expression.written),
            *(Layer(_flag(key), {key: value}) for key, value in flags.items()),
        ],
        expression=expression.text,
        method=method_with(expression.switches, expression.base.name),
        written=tuple(expression.written),
    )
    for key in expression.written:
        if not any(one in recipe.origins for one in expand(key)):
            raise UserError(f"{key} would not be read: it is read where {reason(key)}; leave it out or set that.")
    check_crops(recipe.values())
    before = {**switch_values(source.switches), **defaults(scale), **inherited}
    gone = [key for key in inherited if key not in recipe.origins and read_by(key, before)]
    return replace(recipe, dropped=() if expression.like else tuple(gone))


def _flag(key: str) -> str:
    """Return the option of the command line that sets a knob."""
    return FLAGS.get(key) or f"--{key.rpartition('.')[2].replace('_', '-')}"


def preset_of(*knobs: Mapping[str, Value]) -> list[Layer]:
    """Return the layer of the preset that the last of some knobs names; nothing where none does."""
    name = str({key: value for some in knobs for key, value in some.items()}.get(PRESET, OFF))
    return [] if name == OFF else [Layer.read(f"preset {name}", {"views": PRESETS[name].views})]


def colour_preset(recipe: Recipe) -> str | None:
    """Return the first preset that keeps colours, where hue, saturation or grayscale of the views go beyond its ranges.

    It is None where they do not, or where the recipe has a preset that keeps colours.
    """
    own, knobs = PRESETS.get(recipe.views.preset), recipe.knobs()
    if own is not None and own.keeps_colour:
        return None
    for name in (name for name, preset in PRESETS.items() if preset.keeps_colour):
        for key, bounds in preset_of({PRESET: name})[0].ranges.items():
            view, _, what = key.rpartition(".")
            able = what == "grayscale" or knobs.get(f"{view}.jitter")  # which is the chance of the others
            if able and what in COLOURS and key in knobs and hold(key, knobs[key], *bounds) != knobs[key]:
                return name
    return None


def with_preset(recipe: Recipe, name: str) -> str:
    """Return a recipe's expression with another preset, without the words that would win over its ranges."""
    over, kept = {PRESET, *preset_of({PRESET: name})[0].ranges}, []
    for word in recipe.expression.split():
        keys = dotted(canonical(word.partition("=")[0])) if "=" in word else []
        if not over & {one for key in keys for one in expand(key)}:
            kept.append(word)
    return " ".join([*kept, f"{PRESET}={name}"])


def load(expression: str | Sequence[str], scale: str = "small", **knobs: Value) -> Recipe:
    """Return the recipe of an ``expression``, as on the command line: ``load("byol - momentum")``.

    ``scale`` is "small" (views up to 64 px) or "large"; ``knobs`` are further words of the expression, as in
    ``load("byol - predictor", tau=0.9)``; one whose name has a dot is written in the expression itself. Raises
    `UserError`, a `ValueError`, with one sentence that names the mend.
    """
    if scale not in ("small", "large"):
        raise UserError(f"scale cannot be {scale!r}; it is small or large.")
    return resolve(parse([*words_of(expression), *(f"{key}={value}" for key, value in knobs.items())]), scale)
