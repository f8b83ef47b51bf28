"""Studies: tables of papers as files, read strictly, run like any table of cells, and set beside what was published."""

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from ..data.sets import KNOWN
from ..recipes.algebra import parse
from ..tools.errors import UserError, did_you_mean, listing, within
from ..tools.places import shipped
from ..tools.records import Record
from ..tools.toml import read_toml
from ..training.options import Options
from . import cells, tables
from .lattice import Cell, Flip, lattice, read_flips
from .pictures.kinds import draw
from .results import Head, Paper, Protocol, Table
from .setting import NOTHING_CHANGES, Given, Setting, command, options
from .watch import Watch

STUDIES = shipped("studies", "benchmarks/studies")
SPEED = 1000  # images a second, for the cost that the list states
PICTURES = ("curves", "bars", "scatter", "lattice")

# ---- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """Describes a row of a study: its name in the table, its expression, and what the paper published for it."""

    label: str
    expression: str
    published: str = ""


@dataclass(frozen=True)
class Study:
    """Describes a study file: its variants, or a base and what is flipped; ``words`` are added to each expression."""

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
    variants: Sequence[Variant] = ()
    base: str | None = None
    flip: Sequence[str] = ()

    def cells(self, setting: Setting | None = None) -> list[Cell]:
        """Return the cells, with their recipes where there is a setting. Raises `UserError`."""
        if self.base is not None:
            words, flips = [self.first_expression], self.flips()
            return lattice(words, flips) if setting is None else lattice(words, flips, setting.recipe)
        found = []
        for variant in self.variants:
            text = f"{variant.expression} {self.words}".strip()
            with within(f"{self.name}.toml, {variant.label!r}"):
                expression = parse(text)
                cell = Cell(text, expression.switches, label=variant.label, published=variant.published)
                found.append(replace(cell, recipe=setting.recipe(expression)) if setting is not None else cell)
        return found

    def flips(self) -> list[Flip]:
        """Return what is flipped; nothing where there are variants. Raises `UserError`."""
        if self.base is None:
            return []
        with within(f"{self.name}.toml"):
            base = parse(self.first_expression, finished=False)  # the cells are
            return read_flips(self.flip, base.switches, base.base.name)

    @property
    def first_expression(self) -> str:
        """Return the base, or the first variant's expression."""
        return f"{self.variants[0].expression if self.base is None else self.base} {self.words}".strip()


def names() -> list[str]:
    """Return the names of the shipped studies."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def find(name: str) -> Study:
    """Return a shipped study by name, or the one of a person's own file. Raises `UserError`."""
    plain = name.replace("-", "_").lower()
    path = STUDIES / f"{plain}.toml" if plain in names() else Path(os.path.expanduser(name))
    if path.suffix != ".toml" and not os.path.isfile(path):
        raise UserError(f"There is no study {name!r}{did_you_mean(plain, names())}; 'sslzoo study' lists them.")
    return read_toml(path, "'sslzoo study' lists the shipped ones", lambda content: read(path.stem, content))


def read(name: str, content: Mapping[str, Any]) -> Study:
    """Return the study that a file's content is, every key known and of its type. Raises `UserError`."""
    content = {**content, "flip": [content["flip"]]} if isinstance(content.get("flip"), str) else content
    known, required = _keys(Study), _required(Study)
    _check(content, known)
    missing = [key for key in required if key not in content]
    if missing:
        raise UserError(f"A study has to say {', '.join(required)}; this one lacks {', '.join(missing)}.")
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
        _check(variant, _keys(Variant))
        for key in _required(Variant):
            if key not in variant:
                raise UserError(f"A variant has to have label and expression; {dict(variant)} lacks {key}.")
    for key in ("epochs", "seeds"):
        if content[key] < 1:
            raise UserError(f"{key} cannot be {content[key]}; it is at least 1.")
    return Study(name, **{**content, "variants": [Variant(**one) for one in content.get("variants", [])]})


def _keys(cls: type[Study] | type[Variant]) -> dict[str, type]:
    """Return the keys of a table in a study file, with the type that TOML has for each: text, whole number or list."""
    hints = get_type_hints(cls)
    kinds = {key: get_args(hint)[0] if isinstance(hint, UnionType) else hint for key, hint in hints.items()}
    return {key: list if get_origin(kind) else kind for key, kind in kinds.items() if key != "name"}  # the file's


def _required(cls: type[Study] | type[Variant]) -> list[str]:
    return [one.name for one in fields(cls) if one.default is MISSING and one.name != "name"]


def _check(table: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in known:
            raise UserError(f"Unknown key {key!r}{did_you_mean(key, known)}; it can be {listing(known)}.")
        if type(value) is not known[key] or value == []:
            kind = {str: "text", int: "a whole number", list: "a list that is not empty"}[known[key]]
            raise UserError(f"{key} cannot be {value!r}; it is {kind}.")


# ---- the list --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ListedStudy(Record):
    """Describes a shipped study in the list, with the number of its cells and what it costs in minutes at `SPEED`."""

    name: str
    title: str
    source: str
    question: str
    data: str
    epochs: int
    seeds: int
    cells: int
    minutes: float


def listed() -> list[ListedStudy]:
    """Return the shipped studies, and what one costs: all passes of images through training at `SPEED`."""
    return [_listed(find(name)) for name in names()]


def _listed(found: Study) -> ListedStudy:
    count = len(found.variants) or sum(cell.refused is None for cell in found.cells())
    passes = count * found.seeds * found.epochs * KNOWN[found.data][1]
    return ListedStudy(
        name=found.name, title=found.title, source=found.source, question=found.question, data=found.data,
        epochs=found.epochs, seeds=found.seeds, cells=count, minutes=passes / SPEED / 60,
    )  # fmt: skip


# ---- running one -----------------------------------------------------------------------------------------------------


def study(name: str, given: Given, seeds: int | None = None, watch: Watch | None = None) -> Table:
    """Run a study by name or file, and return its table.

    ``given`` is what all runs share, in place of what the file says; so is ``seeds``. Finished runs are kept in the
    folder below ``out`` and not run again. Raises `UserError`.
    """
    found = find(name)
    out = given.get("out", Options.out)
    file = {"data": found.data, "epochs": found.epochs, "batch_size": found.batch_size, "backbone": found.backbone}
    changed = {key: value for key, value in given.items() if key != "out" and value is not None}
    if "train" in changed:  # it takes the place of the file's data
        del file["data"]
    chosen = cast(Given, {**file, **changed})
    setting = Setting.of(replace(options(chosen), out=out))
    variants = found.cells(setting)
    protocol = setting.protocol(variants, found.seeds if seeds is None else seeds)
    head = Head(
        paper=Paper(found.name, f"{found.title} ({found.source})", found.question, found.paper),
        expression=found.first_expression, protocol=protocol,
        command=command("study", [name], {**changed, "seeds": seeds, "out": out}),
        flip=None if found.base is None else {one.key: list(one.values) for one in found.flips()},
        note=scale_note(found, protocol, chosen.get("limit")),
    )  # fmt: skip
    folder = (
        Path(out)
        / f"study-{found.name}-{setting.digest({k: v for k, v in chosen.items() if k not in NOTHING_CHANGES})}"
    )
    table = cells.run(variants, setting, head, folder, watch or Watch(), knn_each_epoch=found.picture == "curves")
    kinds = ["bars" if found.base is None else "lattice", *([found.picture] if found.picture else [])]
    return tables.write(table, draw(table, kinds))


def scale_note(found: Study, protocol: Protocol, limit: int | None) -> str | None:
    """Return the sentence that says where a table is not the one of the study's file; None where it is."""
    names = ("epochs", "seeds", "batch_size", "data", "backbone")
    both = [(getattr(protocol, name), getattr(found, name), name) for name in names]
    changed = [(here, filed, name) for here, filed, name in both if None not in (here, filed) and here != filed]
    parts = []
    for here, filed, name in changed:
        noun = name.removesuffix("s")  # epochs and seeds are counted
        parts.append(f"{tables.counted(here, noun) if noun != name else f'{name} {here}'} instead of {filed}")
    parts += [f"{protocol.images} images (--limit)"] if limit is not None else []
    if not parts:
        return None
    less = limit is not None or any(not isinstance(here, str) and here < filed for here, filed, _ in changed)
    return f"{'Reduced' if less else 'Changed'}: {', '.join(parts)}."
