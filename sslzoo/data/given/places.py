"""From what a person gives to lists of images with labels: one folder, or a folder for each split, and their labels."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ...tools.errors import UserError
from ...tools.progress import Work
from ..contents.hashes import Hashes
from ..depth import Range
from ..home import count, home, natural, some
from ..images import FileImages
from ..layout import ONE_CLASS, Found, check_depth, check_sorted, listing_files, split_folders, understood
from ..listed.paths import Paths
from ..listed.tree import Folder
from ..splits import Split
from ..unreadable import UnreadableImages
from .options import SPLITS, DataOptions, option
from .part import Part, check_alike
from .relabelled import described, relabelled


@dataclass(frozen=True)
class Listing:
    """Holds the images of a data set as they lie there: in one split or more, with the names of their classes.

    A label is a place in ``names``, or -1 of an image that has none. ``name`` is the data set's. With ``all_train``
    images without labels are trained on, whatever is held out.
    """

    train: Split
    test: Split | None
    names: list[str]
    val: Split | None = None
    held: str = ""  # the folder of the test split
    empty: list[str] = field(default_factory=list)  # classes without images
    lone: dict[str, str] = field(default_factory=dict)  # classes that only one split has, and which
    decisions: list[str] = field(default_factory=list)  # sentences on what was decided
    name: str = ""
    all_train: bool = False

    @property
    def notes(self) -> list[str]:
        """Return what was decided, and what is worth saying of the classes."""
        lone = [f"{name} ({split})" for name, split in self.lone.items()]
        found = [("classes without images are left out", self.empty), ("classes in one split alone", lone)]
        notes = [*self.decisions, *(f"{what}: {some(names)}" for what, names in found if names)]
        return notes + [ONE_CLASS] * (len(self.names) == 1)


class Places:
    """Finds the folders that options name, as one tree each, without the others."""

    def __init__(self, given: DataOptions, work: Work):
        self.given, self.work = given, work
        named = {split: getattr(given, split) for split in SPLITS if getattr(given, split) is not None}
        main = os.path.expanduser(given.place)
        self.several = bool(named)
        self.main = os.path.abspath(main) if self.several else str(Path(main))
        self.named = {split: os.path.abspath(os.path.expanduser(text)) for split, text in named.items()}
        for split, path in self.named.items():
            if not os.path.isdir(path):
                raise UserError(f"There is no folder {path}; give {option(split)} a folder of images.")
        self.real = {"data" if given.train is None else "train": os.path.realpath(main)}
        self.real |= {split: os.path.realpath(path) for split, path in self.named.items()}
        for split, real in reversed(self.real.items()):
            twin = next((one for one, other in self.real.items() if one != split and other == real), None)
            if twin is not None:
                raise UserError(f"{option(split)} and {option(twin)} are one folder, {real}; give each its own.")

    @cached_property
    def root(self) -> Path:
        """The folder that holds all of them."""
        return Path(os.path.commonpath([self.main, *self.named.values()]) if self.several else self.main)

    @property
    def name(self) -> str:
        """The name of the data set: that of the folder that is trained on, or that holds the splits alone."""
        main = Path(self.main).resolve()
        of_splits = self.given.train is not None and self.root.resolve() == main.parent
        return main.parent.name if of_splits and main.parent.name else main.name

    def tree(self, split: str) -> Folder:
        """Return the tree of a split's folder, or of all data, without the other folders that are named."""
        others = frozenset(real for one, real in self.real.items() if one != split)
        return Folder(self.named.get(split, self.main), self.work, without=others)


def list_data(given: DataOptions, shown: Range | None = None) -> Listing:
    """Return what the folders hold that options name, nothing of it read; ``shown`` is `Picture`'s.

    Raises `UserError` where there are no images, and for labels that cannot be understood.
    """
    given.check()
    with listing_files() as work:
        places = Places(given, work)
        tree = places.tree("data" if given.train is None else "train")
        tables, unused = described(given, _folders_of(tree, places))
        found = _found(given, places, tree, by_folder=not tables)
        apart = home(places.tree("unlabelled")).part(False) if "unlabelled" in places.named else Part(())
    if "unlabelled" in places.named and not len(apart):
        raise UserError(
            f"{places.named['unlabelled']} holds no images; leave --unlabelled out, or give another folder."
        )
    notes = [*found.decisions, *unused]
    parts: Mapping[str, Part] = found.parts
    if tables:
        bases = [str(places.root), places.main, *places.named.values(), os.getcwd()]
        parts, said = relabelled(parts, tables, bases)
        notes += said
    if len(apart):
        notes.append(f"{count(len(apart), 'image')} of {given.unlabelled} train without a label (--unlabelled)")
    made = assembled(parts, apart, places.root, shown)
    return replace(
        made, held=found.held, empty=found.empty, lone=found.lone, decisions=notes, name=places.name,
        all_train=bool(tables or len(apart)),
    )  # fmt: skip


def list_folder(root: Path, shown: Range | None = None) -> Listing:
    """Return what one folder holds, as `list_data` does."""
    return list_data(DataOptions(str(root)), shown)


def _folders_of(tree: Folder, places: Places) -> list[str]:
    """Return the folders in which a table may lie that describes the images beside it."""
    inside = [] if places.given.train is not None else [one.text for one in split_folders(tree).values()]
    return [tree.text, *inside, *(path for split, path in places.named.items() if split != "train")]


def _found(given: DataOptions, places: Places, tree: Folder, by_folder: bool) -> Found:
    """Return the splits that are found in a tree, or given beside it."""
    elsewhere = {split for split in ("val", "test") if split in places.named}
    if given.train is not None and len(inside := split_folders(tree)) > 1:
        names = " and ".join(f"{folder.name}/" for folder in inside.values())
        raise UserError(
            f"{tree.text} has {names}, which are splits; give it as --data, or --train {inside['train'].text}."
        )
    found = understood(tree, given.class_depth, elsewhere, by_folder)
    parts, decisions, lone = {**found.parts}, [*found.decisions], {**found.lone}
    labelled = parts["train"].labels is not None
    for split in sorted(elsewhere):
        one = home(places.tree(split), given.class_depth)
        if not one.folder.has_images():
            raise UserError(f"{one.folder.text} holds no images; give {option(split)} another folder.")
        if by_folder and not labelled:
            decisions.append(
                f"{one.folder.text} is not used: {count(one.folder.count(), 'image')}, nothing has a label"
            )
            continue
        if by_folder:
            check_depth(one)
            check_sorted(one, tree)
        parts[split] = one.part(by_folder)
        word = "the test split" if split == "test" else "the validation split, for kNN while a run goes on"
        decisions.append(f"{one.folder.text} is {word}")
        if split == "test" and by_folder:
            train, test = set(parts["train"].names), set(parts["test"].names)
            for name in sorted(sorted(train ^ test), key=natural):
                lone[name] = tree.name if name in train else one.folder.name
    held = Path(places.named["test"]).name if "test" in parts and "test" in elsewhere else found.held
    return replace(found, parts=parts, held=held, decisions=decisions, lone=lone)


def assembled(parts: Mapping[str, Part], apart: Part, root: Path, shown: Range | None) -> Listing:
    """Return the splits of parts, whose labels are places in the names of all; ``apart`` trains without labels."""
    check_alike(parts)
    several = [part for part in parts.values() if part.labels is not None and part.labels.ndim == 2]
    all_names = {name for part in parts.values() if part.labels is not None for name in part.names}
    names = [*several[0].names] if several else sorted(sorted(all_names), key=natural)
    unreadable, hashes = UnreadableImages(root, shown=shown), Hashes(root)
    splits: dict[str, Split] = {}
    for split, part in parts.items():
        whole = part.labelled_as(names)
        whole = whole.joined(apart) if split == "train" and len(apart) else whole
        labels = None if whole.labels is None else torch.from_numpy(np.ascontiguousarray(whole.labels))
        splits[split] = Split(FileImages(Paths(whole.texts), hashes, shown), labels, unreadable=unreadable)
    unreadable.total = sum(map(len, splits.values()))
    return Listing(splits["train"], splits.get("test"), names, splits.get("val"))
