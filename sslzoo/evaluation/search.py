"""Nearest images of a data set: for files, or for images of the set itself."""

import os.path
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.images import FileImages
from ..data.splits import Dataset, Split
from ..metrics import index
from ..metrics.knn import unit_rows
from ..tools import files
from ..tools.errors import UserError
from ..tools.records import plain
from . import gallery
from .sources import Look, holds_features, opened, rows_of, shared_data

Row = dict[str, Any]


def search(
    source: str, images: Sequence[str], data: str | None = None, number: int = 10, split: str = "train",
    out: Path | None = None, **options: Any,
) -> Row:  # fmt: skip
    """What ``sslzoo search --json`` prints. An image is a file, or ``test:7``: a split and a place. Raises `UserError`.

    An image of the searched split is not its own neighbour.
    """
    if holds_features(Path(os.path.expanduser(source))):
        raise UserError(
            f"{source} holds features alone, and images are searched with a network; name a run or a model."
        )
    if number < 1:
        raise UserError(f"-n cannot be {number}; it is at least 1.")
    if out is not None:
        files.check_out(out, ".png")
    look = Look(shared_data([source], data), **options)
    made, dataset, device = opened(source, look)
    where = split_of(dataset, split)
    bank = unit_rows(source, rows_of(made, dataset, where, look, device))
    places = where.readable_places().tolist()  # of the bank's rows
    exact, queries, tiles = index.Exact(str(device)), [], []
    for name in images:
        place = re.fullmatch(r"(train|test):(\d{1,9})", name)
        if place is None and not os.path.isfile(name):
            raise UserError(f"There is no image {name}; give a file, or a place such as test:0.")
        home = split_of(dataset, place[1]) if place else Split(FileImages((Path(name),)))
        at = int(place[2]) if place else 0
        if at >= len(home):
            raise UserError(f"The split has {len(home)} images, and {name} is none of them; count from 0.")
        one = home.take(torch.tensor([at]))
        row = unit_rows(name, rows_of(made, dataset, one, replace(look, workers=0), device))  # one image
        own = at if place and place[1] == split else None
        similar, near = exact(bank, row, min(number + (own is not None), len(bank)))
        pairs = [(float(s), places[i]) for s, i in zip(similar[0], near[0], strict=True)]
        kept = [pair for pair in pairs if pair[1] != own][:number]
        label = None if one.labels is None else int(one.labels[0])
        found = [_neighbour(where, i, s, label) for s, i in kept]
        queries.append({"image": name, "label": label, "neighbours": found})
        if out is not None:
            asked = gallery.Tile(gallery.pictures(one, [0], dataset.size)[0], _said(label))
            tiles.append((name, [asked, *_tiles(where, found, dataset.size)]))
    if out is not None:
        files.write(out, gallery.png(tiles))
    about = {"source": made.label, "data": dataset.name, "split": split, "bad": plain(dataset.unreadable.rows())}
    return {**about, "queries": queries, "out": out and str(out)}


def split_of(dataset: Dataset, name: str) -> Split:
    """The labelled training split, or the test split. Raises `UserError`."""
    if name not in ("train", "test"):
        raise UserError(f"--split cannot be {name!r}; it is train or test.")
    found = dataset.bank if name == "train" else dataset.test
    if found is None:
        raise UserError(f"{dataset.name} has no test split; look in train.")
    return found


def _neighbour(split: Split, place: int, similarity: float, label: int | None) -> Row:
    """One neighbour, as JSON has it."""
    own = None if split.labels is None else int(split.labels[place])
    file = split.images.names[place] if split.images.paths else None
    distance = float(np.sqrt(max(2 - 2 * similarity, 0)))
    right = None if own is None or label is None else own == label
    return {"place": place, "file": file, "label": own, "similarity": similarity, "distance": distance, "right": right}


def _tiles(split: Split, neighbours: Sequence[Row], size: int) -> list[gallery.Tile]:
    shown = gallery.pictures(split, [one["place"] for one in neighbours], size)
    captions = [f"{one['similarity']:.3f} {_said(one['label'])}" for one in neighbours]
    rights = [one["right"] for one in neighbours]
    return [gallery.Tile(*tile) for tile in zip(shown, captions, rights, strict=True)]


def _said(label: int | None) -> str:
    return "" if label is None else f"class {label}"
