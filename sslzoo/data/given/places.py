"""From what a person gives to lists of images with labels: one folder, or a folder for each split, and their labels."""

import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ...tools.errors import UserError
from ...tools.progress import Work
from ..contents.hashes import Hashes
from ..decoded import bands
from ..decoded.ranges import Bands, Range
from ..home import count, home, natural, some
from ..images import FileImages
from ..layout import ONE_CLASS, Found, check_depth, check_sorted, listing_files, split_folders, understood
from ..listed.paths import Paths, texts_of
from ..listed.tree import Folder
from ..splits import Split
from ..unreadable import UnreadableImages
from .options import SPLITS, DataOptions, option
from .part import Part, check_alike
from .relabelled import described, relabelled

WORDS = {"train": "trained on", "test": "the test split", "val": "the validation split, for kNN while a run goes on"}


@dataclass(frozen=True)
class Listing:
    """Holds the images of a data set as they lie there: in one split or more, with the names of their classes.

    A label is a place in ``names``, or -1 of an image that has none. ``name`` is the data set's.
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

    @property
    def notes(self) -> list[str]:
        """Return what was decided, and what is worth saying of the classes."""
        lone = [f"{name} ({split})" for name, split in self.lone.items()]
        found = [("classes without images are left out", self.empty), ("classes in one split alone", lone)]
        notes = [*self.decisions, *(f"{what}: {some(names)}" for what, names in found if names)]
        return notes + [ONE_CLASS] * (len(self.names) == 1)


Read = Callable[[str, Range | None], Listing | None]  # of data in a format of files; None of others


class Places:
    """Finds the folders that options name, as one tree each, without the others, and what is listed in other formats.

    ``main`` is the place that is trained on, in ``key``.
    """

    def __init__(self, given: DataOptions, shown: Range | None, work: Work, read: Read):
        self.given, self.work, self.key = given, work, "data" if given.train is None else "train"
        self.more = bands.SUFFIXES if isinstance(shown, Bands) else frozenset()
        named = {split: getattr(given, split) for split in SPLITS if getattr(given, split) is not None}
        main = os.path.expanduser(given.place)
        self.several = bool(named)
        self.listings = {self.key: read(given.place, shown)}
        self.listings |= {split: read(text, shown) for split, text in named.items() if split != self.key}
        for split, listing in self.listings.items():
            if split in WORDS and listing is not None and listing.test is not None:
                place = getattr(given, split)
                raise UserError(
                    f"{place} has splits of its own; give it as --data, or {option(split)} files of one split."
                )
        self.main = os.path.abspath(main) if self.several else str(Path(main))
        self.named = {split: os.path.abspath(os.path.expanduser(text)) for split, text in named.items()}
        for split, path in self.named.items():
            if self.listings[split] is None and not os.path.isdir(path):
                raise UserError(f"There is no folder {path}; give {option(split)} a folder of images.")
        self.real = {self.key: os.path.realpath(main)}
        self.real |= {split: os.path.realpath(path) for split, path in self.named.items()}
        for split, real in reversed(self.real.items()):
            twin = next((one for one, other in self.real.items() if one != split and other == real), None)
            if twin is not None:
                what = "folder" if os.path.isdir(real) else "place"
                raise UserError(f"{option(split)} and {option(twin)} are one {what}, {real}; give each its own.")

    @cached_property
    def root(self) -> Path:
        """The folder that holds all of them."""
        roots = [str(one.train.unreadable.folder) for one in self.listings.values() if one is not None]
        if not (self.several or roots):
            return Path(self.main)
        folders = {self.key: self.main, **self.named}
        roots += [path for key, path in folders.items() if self.listings[key] is None]
        return Path(os.path.commonpath([os.path.abspath(path) for path in roots]))

    @property
    def name(self) -> str:
        """The name of the data set: that of the folder that is trained on, or that holds the splits alone."""
        if (listing := self.listings[self.key]) is not None:
            return listing.name
        main = Path(self.main).resolve()
        of_splits = self.given.train is not None and self.root.resolve() == main.parent
        return main.parent.name if of_splits and main.parent.name else main.name

    def tree(self, split: str) -> Folder:
        """Return the tree of a split's folder, or of all data, without the other folders that are named."""
        others = frozenset(real for one, real in self.real.items() if one != split)
        return Folder(self.named.get(split, self.main), self.work, without=others, more=self.more)

    @property
    def source(self) -> str | None:
        """What 'data check' is given to look at these; None of one folder."""
        return self.given.described if self.several or self.listings[self.key] is not None else None


def list_data(given: DataOptions, shown: Range | None = None, read: Read = lambda *_: None) -> Listing:
    """Return what the folders hold that options name, nothing of it read; ``shown`` is `Picture`'s.

    Data that ``read`` knows are in a format of files. Raises `UserError` where there are no images, and for labels that
    cannot be understood.
    """
    given.check()
    with listing_files() as work:
        places = Places(given, shown, work, read)
        if (listing := places.listings[places.key]) is not None and not given.asked:
            return listing
        tree = places.tree(places.key)
        tables, unused = described(given, _folders_of(tree, places))
        found = _found(given, places, tree, by_folder=not tables)
        apart = Part(())
        if "unlabelled" in places.named:
            one = places.listings["unlabelled"]
            apart = home(places.tree("unlabelled")).part(False) if one is None else merged(one, False)
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
    made = assembled(parts, apart, places.root, shown, places.source)
    return replace(
        made, held=found.held, empty=found.empty, lone=found.lone, decisions=notes, name=places.name
    )  # fmt: skip


def list_folder(root: Path, shown: Range | None = None) -> Listing:
    """Return what one folder holds, as `list_data` does."""
    return list_data(DataOptions(str(root)), shown)


def _folders_of(tree: Folder, places: Places) -> list[str]:
    """Return the folders in which a table may lie that describes the images beside it."""
    others = [path for split, path in places.named.items() if split != "train" and places.listings[split] is None]
    if places.listings[places.key] is not None:
        return others
    inside = [] if places.given.train is not None else [one.text for one in split_folders(tree).values()]
    return [tree.text, *inside, *others]


def _found(given: DataOptions, places: Places, tree: Folder, by_folder: bool) -> Found:
    """Return the splits that are found in a tree, or given beside it."""
    elsewhere = {split for split in ("val", "test") if split in places.named}
    if (listing := places.listings[places.key]) is not None:
        found = _of_listing(given, listing, elsewhere, by_folder)
    elif given.train is not None and len(inside := split_folders(tree)) > 1:
        names = " and ".join(f"{folder.name}/" for folder in inside.values())
        raise UserError(
            f"{tree.text} has {names}, which are splits; give it as --data, or --train {inside['train'].text}."
        )
    else:
        found = understood(tree, given.class_depth, elsewhere, by_folder)
    parts, decisions, lone = {**found.parts}, [*found.decisions], {**found.lone}
    labelled = parts["train"].labels is not None
    for split in sorted(elsewhere):
        if (beside := places.listings[split]) is not None:
            parts[split] = merged(beside, by_folder)
            decisions.append(f"{getattr(given, split)} is {WORDS[split]}: {count(len(parts[split]), 'image')}")
            continue
        one = home(places.tree(split), given.class_depth)
        if not one.folder.has_images():
            raise UserError(f"{one.folder.text} holds no images; give {option(split)} another folder.")
        if by_folder and not labelled:
            decisions.append(
                f"{one.folder.text} is not used: {count(one.folder.count(), 'image')}, since no training image has a "
                "label to compare with"
            )
            continue
        if by_folder:
            check_depth(one)
            check_sorted(one, tree)
        parts[split] = one.part(by_folder)
        decisions.append(f"{one.folder.text} is {WORDS[split]}")
    if "test" in elsewhere and "test" in parts and by_folder and labelled:
        train, test = set(parts["train"].names), set(parts["test"].names)
        for name in sorted(sorted(train ^ test), key=natural):
            lone[name] = "train" if name in train else "test"
    held = Path(places.named["test"]).name if "test" in parts and "test" in elsewhere else found.held
    return replace(found, parts=parts, held=held, decisions=decisions, lone=lone)


def merged(listing: Listing, labelled: bool) -> Part:
    """Return all images of a listing as one part, with their labels or without."""
    parts = [_part(split, listing, labelled) for split in (listing.train, listing.val, listing.test) if split]
    found = parts[0]
    for part in parts[1:]:
        labels = found.labels
        found = found.joined(part)
        if labels is not None and part.labels is not None:
            found = replace(found, labels=np.concatenate([labels, part.labels]))
    return found


def _part(split: Split, listing: Listing, labelled: bool) -> Part:
    """Return a split of a listing as a part."""
    images = split.images
    assert isinstance(images, FileImages)
    texts = texts_of(images.files)
    if not labelled or split.labels is None:
        return Part(texts, packed=images.packed)
    return Part(texts, split.labels.numpy(), listing.names, images.packed)


def _of_listing(given: DataOptions, listing: Listing, elsewhere: Set[str], labelled: bool) -> Found:
    """Return the splits of data in a format of files; --train has one."""
    if given.class_depth is not None:
        raise UserError(f"--class-depth is for folders of images, and {given.place} is none; leave it out.")
    if given.train is not None:
        return Found({"train": merged(listing, labelled)}, decisions=[*listing.decisions], empty=[*listing.empty])
    three = {"train": listing.train, "val": listing.val, "test": listing.test}
    for split in elsewhere:
        if three[split] is not None:
            raise UserError(f"{given.place} has a {split} split already; leave --{split} out.")
    parts = {split: _part(one, listing, labelled) for split, one in three.items() if one is not None}
    return Found(parts, listing.held, [*listing.empty], {**listing.lone}, [*listing.decisions])


def assembled(
    parts: Mapping[str, Part], apart: Part, root: Path, shown: Range | None, source: str | None = None
) -> Listing:
    """Return the splits of parts, whose labels are places in the names of all; ``apart`` trains without labels."""
    check_alike(parts)
    several = [part for part in parts.values() if part.labels is not None and part.labels.ndim == 2]
    all_names = {name for part in parts.values() if part.labels is not None for name in part.names}
    names = [*several[0].names] if several else sorted(sorted(all_names), key=natural)
    unreadable, hashes = UnreadableImages(root, shown=shown, source=source), Hashes(root)
    splits: dict[str, Split] = {}
    for split, part in parts.items():
        whole = part.labelled_as(names)
        whole = whole.joined(apart) if split == "train" and len(apart) else whole
        labels = None if whole.labels is None else torch.from_numpy(np.ascontiguousarray(whole.labels))
        images = FileImages(Paths(whole.texts), hashes, shown, packed=whole.packed)
        splits[split] = Split(images, labels, unreadable=unreadable)
    unreadable.total = sum(map(len, splits.values()))
    return Listing(splits["train"], splits.get("test"), names, splits.get("val"))
