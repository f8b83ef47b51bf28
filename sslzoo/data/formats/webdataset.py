"""WebDataset: tar files whose neighbours of one name are a sample, as 0001.jpg, 0001.cls and 0001.json.

They are not unpacked: where each picture lies in its tar is looked up once, and each is read from there. So they can be
read in any order, by any number of processes, as files can.
"""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...tools.errors import UserError, listing
from ...tools.progress import Work
from ..decoded.ranges import Range
from ..given.places import Listing
from ..home import some
from ..packed import index
from ..packed.index import Index
from ..packed.lists import Places, is_settled, place_of
from ..picture import is_picture
from .rows import Found, Label, Rows, as_label, in_turn, split_files, to_listing
from .spelling import Spelled

CLASS = "cls"  # the part of a sample that is its class
FOLDER = "folder"  # a label that is the folder of a sample in its tar
NAMES = "classes.txt"  # beside the tar files: the name of each class
LONGEST = 1_000_000  # bytes of a part that says a label
MOST_NAMES = 10_000_000  # bytes of the file of names


@dataclass
class Sample:
    """Holds the parts of one sample: the pictures by the rest of their names, as members, and texts."""

    pictures: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


def listed(spelled: Spelled, shown: Range | None) -> Listing:
    """Return the images of a tar, of a pattern of several, or of a folder of them. Raises `UserError`."""
    files = [Path(os.path.abspath(file)) for file in spelled.files()]
    if len(files) == 1 and files[0].is_dir():
        files = [file for file in sorted(files[0].rglob("*.tar")) if not file.name.startswith(".")]
    root = Path(os.path.commonpath([file.parent for file in files]))
    names = _names(root)
    groups = split_files(files, root)
    splits: dict[str, Rows] = {}
    parts: Counter[str] = Counter()
    with Work("samples listed") as work:
        for split, file in in_turn(groups):
            rows, seen = _read(file, spelled, work)
            splits.setdefault(split, Rows()).add(rows)
            parts.update(seen)
    _number([*splits.values()])
    labelled = any(label is not None for rows in splits.values() for label in rows.labels)
    notes = [f"samples are those of {len(files)} tar files, in their order"] if len(files) > 1 else []
    if labelled:
        numbers = any(isinstance(label, int) for rows in splits.values() for label in rows.labels)
        named = f", with the names of {NAMES}" if names and numbers else ""
        notes.append(f"classes are the parts .{spelled.label or CLASS} of samples{named}")
    elif parts:
        what = some([f".{name}" for name, _ in parts.most_common()])
        notes.append(
            f"no sample has a part .{CLASS}, only {what}: no labels; {spelled.hint('label')} says which they are"
        )
    name = spelled.given if len(files) > 1 and root.name == "" else root.name if len(files) > 1 else files[0].stem
    return to_listing(Found(name, root, splits, names, notes), spelled.given, shown)


def _number(splits: Sequence[Rows]) -> None:
    """Make numbers of classes that are texts of digits, all of them."""
    texts = {label for rows in splits for label in rows.labels if isinstance(label, str)}
    if texts and all(text.isascii() and text.removeprefix("-").isdigit() for text in texts):
        for rows in splits:
            rows.labels = [as_label(int(x)) if isinstance(x, str) else x for x in rows.labels]


def _names(root: Path) -> list[str]:
    """Return the names of classes that lie beside the tar files; none where there are none."""
    with suppress(OSError, UnicodeDecodeError):
        content, _ = index.read_with_state(root / NAMES, MOST_NAMES)
        return [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    return []


def _read(path: Path, spelled: Spelled, work: Work) -> tuple[Rows, Counter[str]]:
    """Return the samples of one tar in its order, and how often each part is there. Raises `UserError`."""
    try:
        place = place_of("lists", str(path), f"{spelled.image}, {spelled.label}")
    except OSError as error:
        raise UserError(f"There is no file {path} ({error.strerror}); give one that is there.") from None
    if (kept := Places.read(place)) is None:
        kept = _looked_up(path, spelled, work)
    if not place.exists() and is_settled(path):
        with suppress(OSError, UserError):  # it is made again where it cannot be kept
            place.parent.mkdir(parents=True, exist_ok=True)
            kept.write(place, "it is made again")
    made = Index.of(str(path), str(path), kept.names, kept.spans)
    labels, parts = kept.more
    return Rows(made.texts, labels if any(x is not None for x in labels) else [], [made]), Counter(parts)


def _looked_up(path: Path, spelled: Spelled, work: Work) -> Places:
    """Return where the pictures of a tar lie, their labels, and how often each part is there. Raises `UserError`."""
    samples: dict[str, Sample] = {}
    try:
        with path.open("rb") as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            size = os.fstat(opened.fileno()).st_size
            for key, part, member in _members(tar):
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError
                sample = samples.setdefault(key, Sample())
                if part in sample.pictures or part in sample.texts:
                    raise UserError(f"{path} holds {member.name} twice; give each sample a name of its own.")
                if is_picture(os.path.splitext("x." + part)[1].lower()):
                    sample.pictures[part] = member
                    work.add(1)
                else:
                    small = member.size <= LONGEST  # what is longer says no label
                    sample.texts[part] = os.pread(opened.fileno(), member.size, member.offset_data) if small else b""
    except (OSError, tarfile.TarError) as error:
        why = "it breaks off, or is compressed" if isinstance(error, tarfile.TarError) else str(error.strerror)
        raise UserError(
            f"{path} is no whole plain tar ({why}); unpack it, and pack it anew without compression."
        ) from None
    return _places(path, samples, spelled)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield each file of a tar with the name of its sample, and the rest of its own name."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # which would keep all of them
        name = index.plain(member.name)
        folder, _, base = name.rpartition("/")
        if not member.isreg() or member.issparse() or not base or base.startswith("."):
            continue
        stem, _, part = base.partition(".")
        yield (f"{folder}/{stem}" if folder else stem), part.lower(), member


def _places(path: Path, samples: dict[str, Sample], spelled: Spelled) -> Places:
    """Return where the pictures of samples lie. Raises `UserError`."""
    there = Counter(part for sample in samples.values() for part in sample.pictures)
    wanted = spelled.image or _picture(path, samples, there, spelled)
    names: list[str] = []
    spans: list[tuple[int, int]] = []
    labels: list[Label] = []
    for key, sample in samples.items():
        part = wanted or next(iter(sample.pictures), "")
        if (member := sample.pictures.get(part)) is not None:
            names.append(index.plain(f"{key}.{member.name.rpartition('/')[2].partition('.')[2]}"))
            spans.append((member.offset_data, member.size))
            labels.append(_label(path, key, sample, spelled.label))
    if spelled.image and not names:
        parts = listing(f".{part}" for part in there) or "no picture"
        raise UserError(f"{path} has no sample with a part .{spelled.image}, only {parts}; name one of these.")
    texts = Counter(part for sample in samples.values() for part in sample.texts)
    return Places(names, np.array(spans, np.int64).reshape(-1, 2), more=[labels, texts])


def _picture(path: Path, samples: dict[str, Sample], there: Counter[str], spelled: Spelled) -> str | None:
    """Return the part that is the picture of each sample; None where each has one, whatever its kind."""
    if all(len(sample.pictures) <= 1 for sample in samples.values()):
        return None
    several = listing(f".{part}" for part in sorted(there))
    raise UserError(f"{path} has samples of several pictures ({several}); say which it is: {spelled.hint('image')}.")


def _label(path: Path, key: str, sample: Sample, asked: str | None) -> Label:
    """Return the class of a sample, by number or by name; None where nothing says it. Raises `UserError`."""
    part, _, inside = (asked or CLASS).partition(".")
    if part == FOLDER and FOLDER not in sample.texts:
        return key.rpartition("/")[0].rpartition("/")[2] or None
    if part not in sample.texts:
        return None
    try:
        found: Any = sample.texts[part].decode().strip()
        for name in inside.split(".") if inside else ():
            found = json.loads(found) if isinstance(found, str) else found
            found = found.get(name) if isinstance(found, dict) else None
    except ValueError:
        raise UserError(f"{path} has a label of {key} that is no text ({part}); write it anew.") from None
    return as_label(found)
