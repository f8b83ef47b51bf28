"""How a folder of pictures is understood: which folders are splits, which are classes, and what is left out."""

import re
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..tools.errors import UserError, listing
from ..tools.progress import Work
from .decoded import heif
from .given.part import Part
from .home import Home, count, home, in_natural_order, natural, some
from .listed.tree import BROKEN, Folder

SPLITS = {  # names of folders in small letters, by what they are to us
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev", "eval"),
}
NO_LABELS = "no labels: health is shown, kNN is left out"
ONE_CLASS = "one class: kNN cannot go wrong"


def split_folders(root: Folder) -> dict[str, Folder]:
    """Return the folders that are splits: none where they are classes, or where there are none.

    Raises `UserError` where two folders are the same split, and where there is no training split beside others.
    """
    folders = in_natural_order(root.folders)
    found: dict[str, Folder] = {}
    for folder in folders:
        split = next((split for split, names in SPLITS.items() if folder.name.lower() in names), None)
        if split is not None and split in found:
            raise UserError(f"{root.text} has both {found[split].name}/ and {folder.name}/; keep one of them there.")
        if split is not None:
            found[split] = folder
    beside = [folder for folder in folders if folder not in found.values() and folder.has_images()]
    if not found:
        return _spelled_splits(beside)
    if "train" not in found:
        if len(found) > 1 and not beside:
            raise UserError(
                f"{root.text} has {listing(f.name + '/' for f in found.values())} and no train/; name one so."
            )
        return {}
    loose = found["train"].images
    return {} if len(found) == 1 and beside and loose else found  # a class of trains among other classes


def _spelled_splits(folders: Sequence[Folder]) -> dict[str, Folder]:
    """Return folders as splits whose names differ in that word alone, as cars_train and cars_test; none elsewhere."""
    found: dict[str, Folder] = {}
    rests: set[tuple[str, ...]] = set()
    for folder in folders:
        words = re.findall(r"[^\W\d_]+", folder.name.lower())
        for split, names in SPLITS.items():
            for i, word in enumerate(words):
                if said := re.fullmatch(f"({'|'.join(names)})(set|data|images?|imgs?)?", word):
                    found[split] = folder
                    rests.add((*words[:i], said[2] or "", *words[i + 1 :]))
    several = len(found) > 1 and len(rests) == 1 and len({*found.values()}) == len(folders)
    return found if several and "train" in found else {}


def _check_inside(root: Folder) -> None:
    """Raise `UserError` where all there is lies in one folder that has the splits."""
    folders = [folder for folder in root.folders if folder.has_images()]
    if len(folders) != 1 or root.images:
        return
    inside = split_folders(folders[0])
    if len(inside) > 1:
        names = " and ".join(f"{folder.name}/" for folder in inside.values())
        raise UserError(f"{root.text} holds {folders[0].name}/ alone, which has {names}; give {folders[0].text}.")


@dataclass(frozen=True)
class Found:
    """Holds what a folder is understood as: its splits, and what was decided of them.

    ``empty`` are classes without images, ``lone`` those that only one split has, and which.
    """

    parts: dict[str, Part]
    held: str = ""
    empty: list[str] = field(default_factory=list)
    lone: dict[str, str] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)


def understood(
    tree: Folder, depth: int | None = None, elsewhere: Set[str] = frozenset(), labelled: bool = True
) -> Found:
    """Return what a tree holds.

    ``depth`` is the level of the folders that are classes, where a person says it; ``elsewhere`` are the splits that
    are given beside it; where it is not to be ``labelled``, its folders are no classes. Raises `UserError`.
    """
    splits = split_folders(tree)
    if not splits:
        _check_inside(tree)
    for split in elsewhere & splits.keys():
        raise UserError(
            f"{splits[split].text} is a {split} split already; leave --{split} out, or give --train "
            f"{splits.get('train', tree).text} in place of --data."
        )
    start = splits.get("train", tree)
    held = splits.get("test", None if "test" in elsewhere else splits.get("val"))
    own = home(start, depth)
    check_depth(own)
    used = own.sorted_out or not labelled
    other = home(held, depth) if held is not None and used else None
    third = home(splits["val"], depth) if "val" in splits and held != splits["val"] and used else None
    third = third if third is not None and (third.classes or not labelled) else None
    if not own.folder.has_images():
        why = f" ({_convert(own)})" if own.others else ""
        raise UserError(f"{start.text} holds no images{why}; give a folder with .jpg, .png or other pictures.")
    if other is not None and labelled:
        check_sorted(other, start)
    homes = [one for one in (own, third, other) if one is not None]
    by_folder, labelled = labelled, labelled and own.sorted_out
    three = (("train", own), ("val", third), ("test", other))
    parts = {split: one.part(labelled) for split, one in three if one is not None}
    names = {name for one in homes for name in one.classes} if labelled else set()
    empty = sorted({name for one in homes for name in one.empty} - names, key=natural) if names else []
    lone = {
        name: start.name if name in own.classes else other.folder.name
        for name in sorted(sorted(names), key=natural)
        if other is not None and (name in own.classes) != (name in other.classes)
    }
    used_folders = [one.folder for one in homes]
    decisions = [
        *_splits(tree, splits, held if other is not None else None, used_folders),
        *(_classes(own, sorted(sorted(names), key=natural)) if by_folder else ()),
        *map(_convert, homes),
    ]
    return Found(parts, held.name if held else "", empty, lone, [line for line in decisions if line])


@contextmanager
def listing_files() -> Iterator[Work]:
    """Show how many files are listed, and turn a folder that may not be listed into a sentence."""
    try:
        with Work("files listed") as work:
            yield work
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be listed ({error.strerror}); allow it to be read or move it away."
        ) from None


def check_depth(one: Home) -> None:
    """Raise `UserError` where no folders of images lie at the level that a person says."""
    if one.depth is not None and not one.classes:
        raise UserError(
            f"{one.folder.text} has no folders of images at level {one.depth} below it; give another --class-depth."
        )


def check_sorted(one: Home, start: Folder) -> None:
    """Raise `UserError` where a split has no folders of classes, as the training split does."""
    if not one.classes:
        raise UserError(
            f"{one.folder.text} holds no images in folders of classes, as {start.text} does; sort them or remove it."
        )


def _splits(root: Folder, splits: dict[str, Folder], held: Folder | None, used: Sequence[Folder]) -> Iterator[str]:
    """Yield what is decided about the folders of splits."""
    if not splits:
        folders = in_natural_order(root.folders)
        named = [folder.name for folder in folders if any(folder.name.lower() in s for s in SPLITS.values())]
        if named:
            yield f"taken for classes and no splits: {', '.join(name + '/' for name in named)}"
        return
    if len(splits) > 1:
        second = "" if held is None else f", {held.name}/ is the test split"
        yield f"{splits['train'].name}/ is trained on{second}"
    if "val" in splits and splits["val"] != held and splits["val"] in used:
        yield f"{splits['val'].name}/ is the validation split, for kNN while a run goes on"
    for folder in splits.values():
        if folder not in (*used, held) and (unused := folder.count()):
            yield f"{folder.name}/ is not used: {count(unused, 'image')}"
    beside = [folder for folder in in_natural_order(root.folders) if folder not in splits.values()]
    if left_out := [folder.name for folder in beside if folder.has_images()]:
        yield f"folders beside the splits are left out: {some(left_out)}"
    if loose := len(root.images):
        yield f"images beside the splits are left out: {loose}"


def _classes(own: Home, names: Sequence[str]) -> Iterator[str]:
    """Yield what is decided about the folders of classes of the training split."""
    if not names:
        if own.classes and own.strays:
            beside = count(len(own.strays), "image lies", "images lie")
            yield f"{beside} beside {count(len(own.classes), 'folder')}, which are no classes then"
        return
    yield f"{count(len(names), 'class', 'classes')}, by folder: {some(names)}"
    if own.strays:
        shown = some(own.strays)
        yield f"beside the folders of classes, without a label: {count(len(own.strays), 'image')} ({shown})"
    inside = (one for folders in own.classes.values() for folder in folders for one in folder.below())
    below = {one.path.relative_to(own.folder.path).parts for one in inside if one.images}
    level = own.depth or 1
    deep = {parts for parts in below if len(parts) > level}
    if deep:
        lying = count(len(deep), "folder lies", "folders lie")
        which = "the first level" if level == 1 else f"level {level}"
        yield f"classes are the {count(len(own.classes), 'folder')} of {which}; {lying} below them"
    if named := sorted(
        {parts[level] for parts in deep if any(parts[level].lower() in words for words in SPLITS.values())}
    ):
        yield f"in the folders of classes these are no splits, and all of them count: {some(named)}"


def _convert(one: Home) -> str:
    """Return sentences on pictures that cannot be read here, or nothing."""
    said, others = "", one.others.copy()
    if broken := others.pop(BROKEN, 0):
        said = f"{count(broken, BROKEN)} in {one.folder.name}/: fetch what they lead to"
    if others:
        kinds = " and ".join(f"{number} {suffix}" for suffix, number in others.most_common())
        files = "file" if others.total() == 1 else "files"
        said += f"{'; ' * bool(said)}{kinds} {files} in {one.folder.name}/ cannot be read here; {_mend(others)}"
    return said


def _mend(others: Collection[str]) -> str:
    """Return what to do about pictures of suffixes that cannot be read."""
    if not any(suffix in heif.SUFFIXES for suffix in others):
        return "convert them to JPEG"
    return "pip install 'sslzoo[heic]' reads HEIC, or convert them to JPEG"
