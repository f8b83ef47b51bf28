"""Features of a data set by a source, with the names of files and classes, and the labels."""

import os.path
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.listed.paths import relative
from ..data.splits import Dataset, Split
from ..processes.launched import readers
from ..tools.errors import UserError
from ..training import contents, runs
from ..training.guards import enough_memory
from ..training.machine import evaluation_autocast, find_device, other_versions
from ..views.colours import Colours, gray
from ..views.features import BATCH, Preprocessing, features, raw_size
from .embedding import Embedding, Gap, holds_features, read_features
from .given.banks import embedding_of, with_numbers
from .kept.features import Floats, cached
from .sources import (
    EmbedOptions,
    Source,
    check_transform,
    check_used,
    files_among,
    is_features,
    open_source,
    shared_data,
)


def embed_alone(name: str, options: EmbedOptions, every: bool = False) -> Embedding:
    """Return what `embed` does of the only source; options of images beside features are an error."""
    check_used(files_among([name], options), options)
    check_transform([name], options)
    return embed(name, options, every)


def embed(name: str, options: EmbedOptions, every: bool = False) -> Embedding:
    """Return the features of a source, of each image with a label, or of ``every`` image. Raises `UserError`."""
    path = Path(os.path.expanduser(name))
    if is_features(path, options.backbone):
        if options.backbone or not options.usual:
            raise UserError(f"{name} holds features and no network; leave --backbone, --layer and --network out.")
        usual = holds_features(path) and not options.reading.asked
        found = with_numbers(read_features(path) if usual else embedding_of(path, options.reading))
        return replace(found, device=str(find_device(options.device)))
    source, dataset, device = open_source(name, options)
    notes: list[str] = []
    parts = dataset.every_image if every else {"train": dataset.bank, "test": dataset.test}
    made = {
        split: features_of(source, dataset, part, options, device, notes.append)
        for split, part in parts.items() if part is not None
    }  # fmt: skip
    arrays, gaps = rows_of(dataset, parts, made)
    if options.max_bad is not None:
        dataset.unreadable.check_share(options.max_bad)
    if isinstance(source.net, Colours) and gray(arrays["train_features"]):
        notes.append("the images are gray, so that its histograms are of brightness alone")
    if runs.is_run(path):
        about = runs.read_run(path)
        if (why := _changed(path, about, dataset, options)) is not None:
            notes.append(f"its data have changed since it was trained: {why}")
        if others := other_versions(about.versions):
            notes.append(f"it was trained with {others}")
    bank, val, test = (parts.get(split) for split in ("train", "val", "test"))
    assert bank is not None
    test, val = test and test.readable(), val and val.readable()
    dataset = replace(dataset, bank=bank.readable(), val=val, test=test)  # a row for each
    said = "; ".join(notes) or None
    found = Embedding(source.label, dataset.name, arrays, dataset, source.seed, source.group, str(device), said, gaps)
    return replace(found, about=source.about)


def rows_of(
    dataset: Dataset, parts: Mapping[str, Split | None], made: Mapping[str, Floats]
) -> tuple[dict[str, npt.NDArray[Any]], list[Gap]]:
    """Return the arrays of an embedding, of splits whose features are made, and the images that have no row."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    gaps: list[Gap] = []
    for split, rows in made.items():
        part = parts[split]
        assert part is not None
        arrays[f"{split}_features"] = rows
        if part.labels is not None:
            arrays[f"{split}_labels"] = cast(Tensor, part.readable().labels).numpy()
        gaps += named_rows(split, part, arrays)
    if dataset.names:
        arrays["classes"] = np.array(dataset.names)
    return arrays, gaps


def named_rows(split: str, part: Split, arrays: dict[str, npt.NDArray[Any]]) -> list[Gap]:
    """Add the names of a split's files, of each that has a row, and return those that have none."""
    names = part.images.names
    if part.images.paths:
        names = tuple(relative(names, part.unreadable.folder))
    places = part.readable_places().tolist()
    arrays[f"{split}_files"] = np.array([names[i] for i in places], dtype=np.str_)
    labels = None if part.labels is None else part.labels.numpy()
    missing = sorted({*range(len(names))} - {*places}) if len(places) < len(names) else []
    return [Gap(split, i, names[i], None if labels is None else labels[i]) for i in missing]


def preprocessing(source: Source, dataset: Dataset) -> Preprocessing:
    """Return what is done to the images of a data set before a source."""
    own = source.transform
    if own is None:
        size = dataset.size if source.net is not None else raw_size(dataset.scored, dataset.size)
        return Preprocessing(size, dataset.mean, dataset.std)
    return Preprocessing(dataset.size, own.mean or dataset.mean, own.std or dataset.std, own.crop)


def features_of(
    source: Source,
    dataset: Dataset,
    part: Split,
    options: EmbedOptions,
    device: torch.device,
    say: Callable[[str], None] = lambda _: None,
) -> Floats:
    """Return the features of ``part.readable()``, as it is afterwards; a network's are kept on disk.

    ``say`` hears of kept ones that were damaged.
    """
    how = preprocessing(source, dataset)
    net = source.net.to(device) if source.net is not None else None

    def make() -> Floats:
        progress = options.progress
        done = None if progress is None else lambda n: progress(source.label, n, len(part))
        workers = readers() if options.workers is None else options.workers
        with enough_memory(f"{BATCH} images of {dataset.size} px", "take a smaller --image-size, or --device cpu"):
            return features(net, part, how, device, workers, done, evaluation_autocast(device, source.precision))

    if net is None or not options.cached:
        return make()
    transform = {**asdict(how), "device": device.type, "net": str(net)}
    transform |= {"precision": source.precision} if device.type == "cuda" else {}
    return cached(net, part, transform, make, say)


def _changed(run: Path, about: runs.RunAbout, dataset: Dataset, options: EmbedOptions) -> str | None:
    """Say in what a run's own data have changed since it was trained on them; None where they have not."""
    mine = shared_data([str(run)], options)
    same = about.options.source in (mine.source, mine.resolved().source)
    if not same or (options.limit, dataset.size) != (about.options.limit, about.image_size):
        return None
    return contents.difference(run, about.identity, dataset)
