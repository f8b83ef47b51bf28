"""Data in several files that a person gives as splits, or with a table of labels: `--train`, `--test`, `--labels`."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...tools.errors import UserError, listing
from ..given.options import SPLITS, DataOptions, option
from ..given.part import Part
from ..given.relabelled import described, relabelled
from ..home import count
from .rows import Found, Rows

Find = Callable[[str], Found | None]  # what a format finds in data; None where they are in none that has files


def together(main: Found, given: DataOptions, find: Find) -> Found:
    """Return what was found in the data that are trained on, with the splits and labels that options name beside it.

    Raises `UserError`.
    """
    if given.class_depth is not None:
        raise UserError(f"--class-depth is for folders of images, and {given.place} is none; leave it out.")
    if given.train is not None and len(main.splits) > 1:
        raise UserError(f"{given.train} has splits of its own ({listing(sorted(main.splits))}); give it as --data.")
    beside: dict[str, Found] = {}
    for split in (name for name in SPLITS[1:] if getattr(given, name) is not None):
        text = getattr(given, split)
        other = find(text)
        if other is None:
            raise UserError(
                f"{option(split)} {text} is in another form than {given.place}; give both in files of a form."
            )
        beside[split] = other
    if not beside and given.labels is None:
        return main
    made = _joined(main, beside, given) if beside else main
    return _labelled(made, given) if given.labels is not None else made


def _joined(main: Found, beside: dict[str, Found], given: DataOptions) -> Found:
    """Return one data set of several, of which each has one split, or that of its name."""
    every = [main, *beside.values()]
    tables = [one for one in every if any(rows.table is not None for rows in one.splits.values())]
    if len({tuple(one.names) for one in tables}) > 1 or (
        tables and len(tables) < len(every) - ("unlabelled" in beside)
    ):
        raise UserError(f"{given.described} have different labels; give all of them the same.")
    named = bool(tables) or all(one is main or not one.names for one in every)
    splits = {split or "train": rows for split, rows in (main.splits if named else _by_name(main)).items()}
    if len(splits) == 1:  # by whatever name
        splits = {"train": splits.popitem()[1]}
    notes = [*main.notes]
    for split, other in beside.items():
        parts = other.splits if named else _by_name(other)
        rows = parts.get(split) if len(parts) > 1 else next(iter(parts.values()), None)
        if rows is None or not rows.texts:
            raise UserError(
                f"{option(split)} {getattr(given, split)} holds no images of that split; give one that has."
            )
        notes += [f"{split}: {note}" for note in other.notes if note not in notes]
        if split == "unlabelled":
            splits["train"].add(Rows(rows.texts, packed=rows.packed))
            notes.append(
                f"{count(len(rows.texts), 'image')} of {given.unlabelled} train without a label (--unlabelled)"
            )
            continue
        if split in splits:
            notes.append(f"its own split {split} is not used: {count(len(splits[split].texts), 'image')}")
        splits[split] = rows
    root = Path(os.path.commonpath([one.root for one in every]))
    all_train = main.all_train or "unlabelled" in beside
    return replace(main, root=root, splits=splits, names=main.names if named else (), notes=notes, all_train=all_train)


def _by_name(found: Found) -> dict[str, Rows]:
    """Return splits whose classes have their names in place of numbers, where these say something."""
    names = found.names
    for rows in found.splits.values():
        if names and max((x for x in rows.labels if isinstance(x, int)), default=-1) >= len(names):
            raise UserError(f"{found.name} has a label beyond its {len(names)} names of classes; give a name each.")
        rows.labels = [names[x] if names and isinstance(x, int) else x for x in rows.labels]
    return found.splits


def _labelled(found: Found, given: DataOptions) -> Found:
    """Return what was found with the labels of a table in place of its own."""
    packed = [index for rows in found.splits.values() for index in rows.packed]
    parts = {split or "train": Part(rows.texts) for split, rows in found.splits.items()}
    tables, _ = described(given, [])
    holders = [index.holder for index in packed]
    parts, notes = relabelled(parts, tables, [str(found.root), *holders, os.getcwd()])
    splits: dict[str, Rows] = {}
    names: list[str] = []
    for split, part in parts.items():
        rows = splits[split] = Rows([*part.texts], packed=packed)
        if part.labels is not None and part.labels.ndim == 2:
            rows.table, names = part.labels, [*part.names]
        elif part.labels is not None:
            rows.labels = [part.names[place] if place >= 0 else None for place in part.labels.tolist()]
    return replace(found, splits=splits, names=names, notes=[*found.notes, *notes], all_train=True)
