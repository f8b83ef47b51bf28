"""Nearest images of a data set: for files, or for images of the set itself."""

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.images import FileImages
from ..data.packed.index import is_file
from ..data.splits import Dataset, Split
from ..metrics import index
from ..metrics.neighbours import ranked
from ..metrics.rows import unit_rows
from ..metrics.task import Task
from ..tools import files
from ..tools.errors import UserError
from ..tools.labels import caption, numbers
from .drawn import gallery
from .encode import features_of
from .results import Neighbour, QueryResult, SearchResult
from .sources import EmbedOptions, check_transform, is_features, open_source


@dataclass(frozen=True)
class Query:
    """Holds an image that is searched for: its split of one, with its labels if it has some, and its own number.

    ``excluded`` is its number in the searched split, None where it is not of that split.
    """

    image: Split
    excluded: int | None


def search(
    source: str,
    images: Sequence[str],
    options: EmbedOptions,
    number: int = 10,
    split: str = "train",
    out: Path | None = None,
) -> SearchResult:
    """Return the nearest images of each image, and write a gallery to ``out``. Raises `UserError`.

    An image is a file, or ``test:7``: a split and a number. An image of the searched split is not its own neighbour.
    """
    if is_features(Path(os.path.expanduser(source)), options.backbone):
        raise UserError(
            f"{source} holds features alone, and images are searched with a network; name a run or a model."
        )
    if number < 1:
        raise UserError(f"-n cannot be {number}; it is at least 1.")
    if out is not None:
        files.check_out(out, ".png")
    check_transform([source], options)
    encoder, dataset, device = open_source(source, options)
    searched = split_of(dataset, split)
    rows = features_of(encoder, dataset, searched, options, device)
    bank, nobody = unit_rows(source, rows), np.zeros(len(rows), np.int64)
    places = searched.readable_places().tolist()  # in the split, of the bank's rows
    exact, results, shown = index.Exact(str(device)), [], []
    for name in images:
        query = _query(dataset, name, split)
        one = features_of(encoder, dataset, query.image, replace(options, workers=0), device)  # one image
        k = min(number + (query.excluded is not None), len(bank))
        task = Task(bank, nobody, unit_rows(name, one), nobody[:1], None, exact, (rows, one))
        similar, near = ranked(task, k)
        pairs = [(float(s), places[i]) for s, i in zip(similar[0], near[0], strict=True)]
        kept = [pair for pair in pairs if pair[1] != query.excluded][:number]
        neighbours = [_neighbour(searched, i, s, query.image, dataset.names) for s, i in kept]
        results.append(QueryResult(name, neighbours=neighbours, **labels_of(query.image, 0, dataset.names)))
        if out is not None:
            picture = gallery.pictures(query.image, [0], dataset.size)[0]
            tiles = _tiles(searched, neighbours, dataset)
            own = query.image.images.names[0] if query.image.images.paths else ""
            shown.append((name, [gallery.Tile(picture, _caption(query.image, 0, dataset.names), name=own), *tiles]))
    if out is not None:
        files.write(out, gallery.png(shown))
    unreadable = dataset.unreadable.rows()
    return SearchResult(
        encoder.label, dataset.name, split, unreadable, results, str(out) if out else None, encoder.about
    )


def split_of(dataset: Dataset, name: str) -> Split:
    """Return the training split, or the test split, with images without a label too. Raises `UserError`."""
    if name not in ("train", "test"):
        raise UserError(f"--split cannot be {name!r}; it is train or test.")
    split = dataset.every_image.get(name)
    if split is not None and split.labels is None and dataset.bank.labels is not None and name == "train":
        split = dataset.bank  # of arrays, to whose images others are added for training alone
    if split is None:
        raise UserError(f"{dataset.name} has no test split; look in train.")
    return split


def _query(dataset: Dataset, name: str, searched: str) -> Query:
    """Return the image of a name, a file or ``test:7``, beside the name of the searched split. Raises `UserError`."""
    numbered = re.fullmatch(r"(train|test):(\d{1,9})", name)
    name = name if os.path.exists(name) or not is_file(os.path.abspath(name)) else os.path.abspath(name)
    if numbered is None and not is_file(name):
        raise UserError(f"There is no image {name}; give a file, or a place such as test:0.")
    home = split_of(dataset, numbered[1]) if numbered else Split(FileImages((Path(name),), shown=dataset.shown))
    number = int(numbered[2]) if numbered else 0
    if number >= len(home):
        raise UserError(f"The split has {len(home)} images, and {name} is none of them; count from 0.")
    image = home.take(torch.tensor([number]))
    if numbered is None:
        return Query(image, place_of(Path(name), split_of(dataset, searched)))
    return Query(image, number if numbered[1] == searched else None)


def place_of(file: Path, split: Split) -> int | None:
    """Return the place of a file in a split, by its path or a link to it; None where it is not one of its images."""
    if not split.images.paths:
        return None
    own = os.path.realpath(file)
    alike = [i for i, text in enumerate(split.images.names) if os.path.basename(text) == os.path.basename(own)]
    return next((i for i in alike if os.path.realpath(split.images.names[i]) == own), None)


def labels_of(split: Split, number: int, names: Sequence[str]) -> dict[str, Any]:
    """Return the label of an image as JSON has it: its class, or its ``labels`` where it may have several."""
    if split.labels is None:
        return {"label": None}
    label, own = split.labels[number], numbers(split.labels[number])
    if (label < 0).any():
        return {"label": None}
    found = {"label_name": caption(label, names) if names and own else None}
    return found | ({"label": None, "labels": own} if label.ndim else {"label": int(label)})


def _neighbour(split: Split, number: int, similarity: float, query: Split, names: Sequence[str]) -> Neighbour:
    """Return the image of a number in the split, as a neighbour of a query."""
    file = split.images.names[number] if split.images.paths else None
    distance = float(np.sqrt(max(2 - 2 * similarity, 0)))
    own, others = (set() if x.labels is None else {*numbers(x.labels[i])} for x, i in ((split, number), (query, 0)))
    known = split.labels is not None and not (split.labels[number] < 0).any()
    right = bool(own & others) if others and known else None
    about = labels_of(split, number, names)
    return Neighbour(number=number, file=file, similarity=similarity, distance=distance, right=right, **about)


def _tiles(split: Split, neighbours: Sequence[Neighbour], dataset: Dataset) -> list[gallery.Tile]:
    pictures = gallery.pictures(split, [one.number for one in neighbours], dataset.size)
    captions = [f"{one.similarity:.3f} {_caption(split, one.number, dataset.names)}" for one in neighbours]
    rights = [one.right for one in neighbours]
    names = [one.file or "" for one in neighbours]
    return [gallery.Tile(*tile) for tile in zip(pictures, captions, rights, names, strict=True)]


def _caption(split: Split, number: int, names: Sequence[str]) -> str:
    return "" if split.labels is None else caption(split.labels[number], names)
