"""The options of data that all commands share: where images lie, which are splits and labels, and how they are read."""

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from ...tools.errors import UserError, listing
from ...tools.records import Record
from ..formats.spelling import Spelled, from_anywhere, is_gone

PLACES = ("data", "train", "val", "test", "labels", "unlabelled")  # options that may be files or folders
SPLITS = ("train", "val", "test", "unlabelled")  # those of folders or files beside --data
SOURCE = (*PLACES, "class_depth")  # options that say which images these are, and their labels


def option(name: str) -> str:
    """Return an option as it is typed."""
    return f"--{name.replace('_', '-')}"


def _optional() -> str | None:
    """Return the default of an option that is left out of JSON where nobody gave it."""
    return field(default=None, metadata={"optional": True})


@dataclass(frozen=True)
class DataOptions(Record):
    """Says what is read. None leaves an option to the data, or to whoever reads them.

    ``data`` is a name, a folder or a file, whose place ``train`` takes; ``val``, ``test`` and ``unlabelled`` are
    further folders or files. ``labels`` is a table of labels, perhaps with the names of columns behind a colon;
    ``class_depth`` is the level of folders that are classes. ``limit`` is the number of training images, ``image_size``
    the size of a view in px, and ``range`` the values that are black and white in images of more than 8 bits.
    ``channels`` is the number of channels that images are read to, by default three colours. ``memory`` says
    whether images of files are kept in memory, and ``max_bad`` which share of them may be unreadable.
    """

    data: str | None = None
    train: str | None = _optional()
    val: str | None = _optional()
    test: str | None = _optional()
    labels: str | None = _optional()
    unlabelled: str | None = _optional()
    class_depth: int | None = field(default=None, metadata={"optional": True})
    limit: int | None = None
    image_size: int | None = None
    range: str | None = _optional()
    channels: int | None = field(default=None, metadata={"optional": True})
    memory: str = "auto"
    max_bad: float | None = None

    @property
    def place(self) -> str:
        """What is trained on: a name, a folder or a file."""
        return self.data if self.data is not None else self.train if self.train is not None else "digits"

    @property
    def named(self) -> bool:
        """Return whether somebody says what is trained on."""
        return self.data is not None or self.train is not None

    @property
    def described(self) -> str:
        """What these data are, in a sentence."""
        beside = [f"{option(name)} {getattr(self, name)}" for name in SOURCE[1:] if getattr(self, name) is not None]
        return " ".join([*([self.place] if self.train is None else []), *beside])

    @property
    def asked(self) -> list[str]:
        """The options beside ``data`` that say which images and labels these are, as they are typed."""
        return [option(name) for name in SOURCE[1:] if getattr(self, name) is not None]

    @property
    def places(self) -> list[str]:
        """The files and folders that are named, which nothing is to be written over."""
        named = {name: text for name in PLACES if (text := getattr(self, name)) is not None}
        return [_file(text) if name == "labels" else Spelled.of(text).text for name, text in named.items()]

    @property
    def source(self) -> tuple[str | int | None, ...]:
        """What tells these data from others, as it was given."""
        return tuple(getattr(self, name) for name in SOURCE)

    def check(self) -> None:
        """Raise `UserError` for options that cannot stand together, or that are empty."""
        if self.data is not None and self.train is not None:
            raise UserError("--train takes the place of --data; give one of the two.")
        for name in PLACES:
            if getattr(self, name) == "" and name != "data":
                raise UserError(f"{option(name)} cannot be empty; name a file or folder, or leave it out.")
        if self.class_depth is not None and self.class_depth < 1:
            raise UserError(f"--class-depth cannot be {self.class_depth}; it is at least 1, the folders of the split.")
        if self.class_depth is not None and self.labels is not None:
            raise UserError("--labels and --class-depth both say what the labels are; give one of the two.")
        if self.max_bad is not None and not 0 <= self.max_bad <= 1:
            raise UserError(f"--max-bad cannot be {self.max_bad:g}; it is a share of the images, from 0 to 1.")

    def over(self, other: "DataOptions") -> Self:
        """Return these options with ``other``'s data, splits and labels where these say nothing, as a run's own.

        Other data or another training split have nothing of the other's splits and labels.
        """
        names = [name for name in SOURCE if getattr(self, name) is None]
        if self.named:
            names = []
        more = {name: getattr(other, name) for name in names}
        if "labels" in more and self.class_depth is not None:
            del more["labels"]
        if "class_depth" in more and self.labels is not None:
            del more["class_depth"]
        return replace(self, **more)

    def resolved(self) -> Self:
        """Return the options with whole paths in place of those that are there; names stay."""
        named = {name: text for name in PLACES if (text := getattr(self, name))}
        whole = {"labels": _whole}
        places: dict[str, Any] = {name: whole.get(name, from_anywhere)(text) for name, text in named.items()}
        return replace(self, **places)

    def missing(self) -> str | None:
        """Return the option of a whole path that is no longer there; None where all are."""
        for name in PLACES:
            text = getattr(self, name)
            gone = _is_gone if name == "labels" else is_gone
            if text is not None and gone(text):
                return name
        return None


NAMES = tuple(one.name for one in fields(DataOptions))


def parted(labels: str) -> tuple[Path, tuple[str, ...]]:
    """Return the file of ``--labels FILE.csv:COLUMN,COLUMN``, and the columns; none where no colon follows it."""
    for suffix in (".csv", ".tsv"):
        before, found, columns = labels.partition(f"{suffix}:")
        if found and not os.path.exists(os.path.expanduser(labels)):
            named = tuple(one.strip() for one in columns.removeprefix("label=").split(",") if one.strip())
            if not named:
                raise UserError(
                    f"--labels {labels} names no column behind the colon; give one, or leave the colon out."
                )
            return Path(os.path.expanduser(before + suffix)), named
    path = Path(os.path.expanduser(labels))
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise UserError(f"--labels {labels} is no table; give a {listing(['.csv', '.tsv'])} file.")
    return path, ()


def _file(text: str) -> str:
    """Return the file of a place, without the names of columns behind it."""
    before, found, _ = text.partition(".csv:")
    return f"{before}.csv" if found else text


def _is_gone(text: str) -> bool:
    """Return whether a path from the root is there no longer."""
    return os.path.isabs(text) and not os.path.exists(_file(text))


def _whole(text: str) -> str:
    """Return the whole path of a table that is there, with the names of columns; another text as it is."""
    path, file = os.path.expanduser(text), os.path.expanduser(_file(text))
    if os.path.exists(path):
        return str(Path(path).resolve())
    return f"{Path(file).resolve()}{path[len(file) :]}" if os.path.exists(file) else text
