"""Studies: tables of papers as files, read strictly, run like any table of cells, and set beside what was published."""

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.sets import KNOWN
from ..recipes.algebra import parse
from ..tools.errors import UserError, did_you_mean, listing, within
from ..tools.places import shipped
from ..tools.toml import read_toml
from ..training.plan import Options
from . import cells, pictures, tables
from .cells import Setting, command
from .lattice import Cell, Flip, lattice, read_flips
from .watch import Watch

STUDIES = shipped("studies", "benchmarks/studies")
SPEED = 1000  # images a second, for the cost that the list states
ALWAYS = {"title": str, "source": str, "paper": str, "question": str, "data": str, "epochs": int, "seeds": int}
MAYBE = {"words": str, "batch_size": int, "backbone": str, "picture": str, "variants": list, "base": str, "flip": list}
VARIANT = {"label": str, "expression": str, "published": str}
PICTURES = ("curves", "bars", "scatter", "lattice")


@dataclass(frozen=True)
class Study:
    """A study file: its variants, or a base and what is flipped."""

    name: str
    title: str
    source: str
    paper: str
    question: str
    data: str
    epochs: int
    seeds: int
    words: str = ""
    batch_size: int | None = None
    backbone: str | None = None
    picture: str | None = None
    variants: Sequence[Mapping[str, str]] = ()
    base: str | None = None
    flip: Sequence[str] = ()

    def cells(self, setting: Setting | None = None) -> list[Cell]:
        """The cells, resolved in a setting where there is one. Raises `UserError`."""
        if self.base is not None:
            flips = self.flips()
            return lattice([self.first], flips, setting.recipe) if setting is not None else lattice([self.first], flips)
        found = []
        for variant in self.variants:
            text = f"{variant['expression']} {self.words}".strip()
            with within(f"{self.name}.toml, {variant['label']!r}"):
                expression = parse(text)
                cell = Cell(text, expression.switches, label=variant["label"], published=variant.get("published", ""))
                found.append(replace(cell, recipe=setting.recipe(expression)) if setting is not None else cell)
        return found

    def flips(self) -> list[Flip]:
        """What is flipped; nothing where there are variants. Raises `UserError`."""
        if self.base is None:
            return []
        with within(f"{self.name}.toml"):
            base = parse(self.first, finished=False)  # the cells are
            return read_flips(self.flip, base.switches, base.base.name)

    @property
    def first(self) -> str:
        """The base, or the first variant."""
        start = self.variants[0]["expression"] if self.base is None else self.base
        return f"{start} {self.words}".strip()


def names() -> list[str]:
    """The shipped studies."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def find(name: str) -> Study:
    """A shipped study by name, or a person's own file. Raises `UserError`."""
    plain = name.replace("-", "_").lower()
    path = STUDIES / f"{plain}.toml" if plain in names() else Path(os.path.expanduser(name))
    if path.suffix != ".toml" and not os.path.isfile(path):
        raise UserError(f"There is no study {name!r}{did_you_mean(plain, names())}; 'sslzoo study' lists them.")
    return read_toml(path, "'sslzoo study' lists the shipped ones", lambda content: read(path.stem, content))


def read(name: str, content: Mapping[str, Any]) -> Study:
    """A study from a file's content, every key known and of its type. Raises `UserError`."""
    content = {**content, "flip": [content["flip"]]} if isinstance(content.get("flip"), str) else content
    _check(content, {**ALWAYS, **MAYBE})
    missing = [key for key in ALWAYS if key not in content]
    if missing:
        raise UserError(f"A study has to say {', '.join(ALWAYS)}; this one lacks {', '.join(missing)}.")
    if ("variants" in content) == ("base" in content) or ("base" in content) != ("flip" in content):
        raise UserError("A study has either [[variants]], or base and flip; write one of the two.")
    if content.get("picture", "bars") not in PICTURES:
        hint = did_you_mean(content["picture"], PICTURES)
        raise UserError(f"picture cannot be {content['picture']!r}{hint}; it is {listing(PICTURES)}.")
    if content.get("picture") == "lattice" and "variants" in content:
        raise UserError("A lattice is the picture of base and flip; for variants it is curves, bars or scatter.")
    for key, kind, noun in (("variants", dict, "tables"), ("flip", str, "texts")):
        if not all(isinstance(item, kind) for item in content.get(key, [])):
            raise UserError(f"{key} cannot be {content[key]!r}; it is a list of {noun}.")
    for variant in content.get("variants", []):
        _check(variant, VARIANT)
        for key in ("label", "expression"):
            if key not in variant:
                raise UserError(f"A variant has to have label and expression; {dict(variant)} lacks {key}.")
    for key in ("epochs", "seeds"):
        if content[key] < 1:
            raise UserError(f"{key} cannot be {content[key]}; it is at least 1.")
    return Study(name, **content)


def _check(table: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in known:
            raise UserError(f"Unknown key {key!r}{did_you_mean(key, known)}; it can be {listing(known)}.")
        if type(value) is not known[key] or value == []:
            kind = {str: "text", int: "a whole number", list: "a list that is not empty"}[known[key]]
            raise UserError(f"{key} cannot be {value!r}; it is {kind}.")


def listed() -> list[dict[str, Any]]:
    """The shipped studies, and what one costs: all passes of images through training at `SPEED`."""
    return [_costed(found) for found in map(find, names())]


def _costed(found: Study) -> dict[str, Any]:
    count = len(found.variants) or sum(cell.refused is None for cell in found.cells())
    passes = count * found.seeds * found.epochs * KNOWN[found.data][1]
    said = ("name", "title", "source", "question", "data", "epochs", "seeds")
    return {**{key: getattr(found, key) for key in said}, "cells": count, "minutes": passes / SPEED / 60}


def study(
    name: str, seeds: int | None = None, watch: Watch | None = None, out: str = "runs", **options: Any
) -> dict[str, Any]:
    """Run a study by name or file and return what ``sslzoo study --json`` prints.

    ``options`` are those of `plan.Options`; what is None is as the file says. Raises `UserError`.
    """
    found = find(name)
    chosen = {key: getattr(found, key) for key in ("data", "epochs", "batch_size", "backbone")}
    chosen |= {key: value for key, value in options.items() if value is not None}
    setting = Setting.of(Options(out=out, **chosen))
    table = found.cells(setting)
    head = {
        "study": found.name, "title": f"{found.title} ({found.source})", "question": found.question,
        "paper": found.paper, "expression": found.first,
        "command": command("study", [name], {**options, "seeds": seeds, "out": out}),
        **setting.head(table, found.seeds if seeds is None else seeds),
    }  # fmt: skip
    if found.base is not None:
        head["flip"] = {one.key: list(one.values) for one in found.flips()}
    head["note"] = reduced(found, head, chosen.get("limit"))
    folder = Path(out) / f"study-{found.name}-{setting.digest(chosen)}"
    result = cells.run(table, setting, head, folder, watch or Watch(), looks=found.picture == "curves")
    kinds = ["lattice" if found.base else "bars", *filter(None, [found.picture])]
    tables.write(result, pictures.drawn(result, *kinds))
    return result


def reduced(found: Study, head: Mapping[str, Any], limit: int | None) -> str | None:
    """The sentence that says where a table is not the one of the file; None where it is."""
    kept = [(head[key], getattr(found, key), key) for key in ("epochs", "seeds", "batch_size", "data", "backbone")]
    changed = [(now, said, key) for now, said, key in kept if None not in (now, said) and now != said]
    parts = []
    for now, said, key in changed:
        plain = key.removesuffix("s")  # epochs and seeds are counted
        parts.append(f"{tables.counted(now, plain) if plain != key else f'{key} {now}'} instead of {said}")
    parts += [f"{head['images']} images (--limit)"] if limit is not None else []
    if not parts:
        return None
    less = limit is not None or any(not isinstance(now, str) and now < said for now, said, _ in changed)
    return f"{'Reduced' if less else 'Changed'}: {', '.join(parts)}."
