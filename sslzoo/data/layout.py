"""How a folder of pictures is understood: which folders are splits, which are classes, and what is left out."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..tools.errors import UserError, listing
from .hashes import Hashes
from .images import FileImages
from .picture import SUFFIXES, is_image
from .splits import Split
from .unreadable import UnreadableImages

NAMED = 5  # names in a note
SPLITS = {  # names of folders in small letters, by what they are to us
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev", "eval"),
}
IGNORED = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information"}  # beside hidden folders
UNREADABLE = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".psd", ".svg"}
NO_LABELS = "no labels: health is shown, kNN is left out"
ONE_CLASS = "one class: kNN cannot go wrong"
BROKEN = "broken link"  # beside the suffixes of files that cannot be read
STRAY = 0.1  # of the images, at most, that lie beside folders of classes and take their labels from nobody


@dataclass(frozen=True)
class Listing:
    """Holds the images of a folder as they lie there: in one split or two, with the names of their classes.

    A label is a place in ``names``, or -1 of an image that lies beside the folders of classes.
    """

    train: Split
    test: Split | None
    names: list[str]
    held: str = ""  # the folder of the second split
    empty: list[str] = field(default_factory=list)  # classes without images
    lone: dict[str, str] = field(default_factory=dict)  # classes that only one split has, and which
    decisions: list[str] = field(default_factory=list)  # sentences on what was decided

    @property
    def notes(self) -> list[str]:
        """Return what was decided, and what is worth saying of the classes."""
        lone = [f"{name} ({split})" for name, split in self.lone.items()]
        found = [("classes without images are left out", self.empty), ("classes in one split alone", lone)]
        notes = [*self.decisions, *(f"{what}: {some(names)}" for what, names in found if names)]
        return notes + [ONE_CLASS] * (len(self.names) == 1)


@dataclass(frozen=True)
class Home:
    """Holds a folder of one split: its classes by name, the images beside them, and files that nobody here can read."""

    path: Path
    classes: dict[str, list[Path]]
    empty: list[str]
    strays: list[Path]
    others: Counter[str]  # by suffix, or as broken links

    @property
    def sorted_out(self) -> bool:
        """Return whether the folders are classes: there are some, and few images lie beside them."""
        inside = sum(map(len, self.classes.values()))
        return bool(self.classes) and len(self.strays) <= (STRAY * inside if len(self.classes) > 1 else 0)

    @property
    def paths(self) -> list[Path]:
        """Return all images, in order of their paths."""
        return sorted([*self.strays, *(path for paths in self.classes.values() for path in paths)])

    def split(self, names: Sequence[str], unreadable: UnreadableImages, hashes: Hashes) -> Split:
        """Return the images in order of their paths, labelled by their class where there are names of classes."""
        paths = self.paths
        if not names:
            return Split(FileImages(tuple(paths), hashes), unreadable=unreadable)
        number = {path: names.index(name) for name, inside in self.classes.items() for path in inside}
        labels = torch.tensor([number.get(path, -1) for path in paths], dtype=torch.long)
        return Split(FileImages(tuple(paths), hashes), labels, unreadable=unreadable)


def some(names: Sequence[str]) -> str:
    """Return the first of many names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def count(number: int, word: str, words: str | None = None) -> str:
    """Return a number with its word, in the plural but for one."""
    return f"{number} {word if number == 1 else words or word + 's'}"


def natural(name: str) -> list[str | int]:
    """Return a key that sorts numbers in names by their value: 1, 2, 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def folders_in(start: Path) -> list[Path]:
    """Return the folders in a folder, less hidden ones and those of systems, in natural order."""
    found = (path for path in start.iterdir() if not path.name.startswith(".") and path.name.lower() not in IGNORED)
    return sorted(
        (path for path in found if path.is_dir() and not _leads_up(path)), key=lambda path: natural(path.name)
    )


def _leads_up(path: Path) -> bool:
    """Return whether a folder is a link to one that it lies in."""
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def image_paths(start: Path, others: Counter[str] | None = None) -> Iterator[Path]:
    """Yield the images below a folder at any depth, less what is hidden; no link back to a folder above is followed.

    ``others`` counts pictures of a kind that cannot be read here, by suffix, and broken links to pictures.
    """
    for path in start.iterdir():
        if path.name.startswith(".") or path.name.lower() in IGNORED:
            continue
        if path.is_dir():
            if not _leads_up(path):
                yield from image_paths(path, others)
        elif is_image(path):
            yield path
        elif others is not None:
            others.update(_other(path))


def _other(path: Path) -> list[str]:
    """Return of what kind a file is that is a picture and cannot be read here, if it is."""
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        return [BROKEN] if suffix in SUFFIXES else []
    return [suffix] if suffix in UNREADABLE else []


def home(path: Path, left_out: Sequence[Path] = ()) -> Home:
    """Return what a folder of a split holds, but for the folders that are left out."""
    others = Counter[str]()
    inside: dict[str, list[Path]] = {}
    for one in folders_in(path):
        if one not in left_out:  # a name is written in two ways where it was zipped on a Mac
            inside.setdefault(unicodedata.normalize("NFC", one.name), []).extend(image_paths(one, others))
    strays = []
    for one in path.iterdir():
        if is_image(one):
            strays.append(one)
        elif not one.is_dir() and not one.name.startswith("."):
            others.update(_other(one))
    classes = {name: paths for name, paths in inside.items() if paths}
    return Home(path, classes, [name for name, paths in inside.items() if not paths], strays, others)


@contextmanager
def _listed() -> Iterator[None]:
    """Turn a folder that may not be listed into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be listed ({error.strerror}); allow it to be read or move it away."
        ) from None


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders that are splits: none where they are classes, or where there are none.

    Raises `UserError` where two folders are the same split, and where there is no training split beside others.
    """
    folders = folders_in(root)
    found: dict[str, Path] = {}
    for folder in folders:
        split = next((split for split, names in SPLITS.items() if folder.name.lower() in names), None)
        if split is not None and split in found:
            raise UserError(f"{root} has both {found[split].name}/ and {folder.name}/; keep one of them there.")
        if split is not None:
            found[split] = folder
    beside = [folder for folder in folders if folder not in found.values() and any(image_paths(folder))]
    if not found:
        return _spelled_splits(beside)
    if "train" not in found:
        if len(found) > 1 and not beside:
            raise UserError(f"{root} has {listing(f.name + '/' for f in found.values())} and no train/; name one so.")
        return {}
    loose = any(map(is_image, found["train"].iterdir()))
    return {} if len(found) == 1 and beside and loose else found  # a class of trains among other classes


def _spelled_splits(folders: Sequence[Path]) -> dict[str, Path]:
    """Return folders as splits whose names differ in that word alone, as cars_train and cars_test; none elsewhere."""
    found: dict[str, Path] = {}
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


def _check_inside(root: Path) -> None:
    """Raise `UserError` where all there is lies in one folder that has the splits."""
    folders = [folder for folder in folders_in(root) if any(image_paths(folder))]
    if len(folders) != 1 or any(map(is_image, root.iterdir())):
        return
    inside = split_folders(folders[0])
    if len(inside) > 1:
        names = " and ".join(f"{folder.name}/" for folder in inside.values())
        raise UserError(f"{root} holds {folders[0].name}/ alone, which has {names}; give {folders[0]}.")


@_listed()
def list_folder(root: Path) -> Listing:
    """Return what a folder holds, nothing of it read. Raises `UserError` where there are no images."""
    splits = split_folders(root)
    if not splits:
        _check_inside(root)
    start = splits.get("train", root)
    held = splits.get("test", splits.get("val"))
    own = home(start)
    other = home(held) if held is not None and own.sorted_out else None
    names = sorted({*own.classes, *(other.classes if other else ())}, key=natural) if own.sorted_out else []
    unreadable, hashes = UnreadableImages(root), Hashes(root)
    train = own.split(names, unreadable, hashes)
    test = other.split(names, unreadable, hashes) if other is not None else None
    if not len(train):
        why = f" ({_convert(own)})" if own.others else ""
        raise UserError(f"{start} holds no images{why}; give a folder with .jpg, .png or other pictures.")
    if test is not None and other is not None and not other.classes:
        raise UserError(f"{held} holds no images in folders of classes, as {start} does; sort them or remove it.")
    unreadable.total = len(train) + (len(test) if test else 0)
    homes = [own, *([other] if other else [])]
    empty = sorted({name for one in homes for name in one.empty} - {*names}, key=natural) if names else []
    lone = {
        name: start.name if name in own.classes else other.path.name
        for name in names if other is not None and (name in own.classes) != (name in other.classes)
    }  # fmt: skip
    decisions = [
        *_splits(root, splits, held if other is not None else None),
        *_classes(own, names),
        *map(_convert, homes),
    ]
    return Listing(train, test, names, held.name if held else "", empty, lone, [line for line in decisions if line])


def _splits(root: Path, splits: dict[str, Path], held: Path | None) -> Iterator[str]:
    """Yield what is decided about the folders of splits."""
    if not splits:
        named = [folder.name for folder in folders_in(root) if any(folder.name.lower() in s for s in SPLITS.values())]
        if named:
            yield f"taken for classes and no splits: {', '.join(name + '/' for name in named)}"
        return
    if len(splits) > 1:
        second = "" if held is None else f", {held.name}/ is the test split"
        yield f"{splits['train'].name}/ is trained on{second}"
    for folder in splits.values():
        if folder not in (splits["train"], held) and (unused := len(list(image_paths(folder)))):
            yield f"{folder.name}/ is not used: {count(unused, 'image')}"
    beside = [folder.name for folder in folders_in(root) if folder not in splits.values() and any(image_paths(folder))]
    if beside:
        yield f"folders beside the splits are left out: {some(beside)}"
    if loose := sum(map(is_image, root.iterdir())):
        yield f"images beside the splits are left out: {loose}"


def _classes(own: Home, names: Sequence[str]) -> Iterator[str]:
    """Yield what is decided about the folders of classes of the training split."""
    if not names:
        if own.classes and own.strays:
            beside = count(len(own.strays), "image lies", "images lie")
            yield f"{beside} beside {count(len(own.classes), 'folder')}, which are no classes then"
        return
    if own.strays:
        shown = some([path.name for path in sorted(own.strays)])
        yield f"beside the folders of classes, without a label: {count(len(own.strays), 'image')} ({shown})"
    below = [path.parent.relative_to(own.path).parts for paths in own.classes.values() for path in paths]
    deep = {parts for parts in below if len(parts) > 1}
    if deep:
        lying = count(len(deep), "folder lies", "folders lie")
        yield f"classes are the {count(len(own.classes), 'folder')} of the first level; {lying} below them"
    if named := sorted({parts[1] for parts in deep if any(parts[1].lower() in words for words in SPLITS.values())}):
        yield f"in the folders of classes these are no splits, and all of them count: {some(named)}"


def _convert(one: Home) -> str:
    """Return sentences on pictures that cannot be read here, or nothing."""
    said, others = "", one.others.copy()
    if broken := others.pop(BROKEN, 0):
        said = f"{count(broken, BROKEN)} in {one.path.name}/: fetch what they lead to"
    if others:
        kinds = " and ".join(f"{number} {suffix}" for suffix, number in others.most_common())
        files = "file" if others.total() == 1 else "files"
        said += f"{'; ' * bool(said)}{kinds} {files} in {one.path.name}/ cannot be read here; convert them to JPEG"
    return said
