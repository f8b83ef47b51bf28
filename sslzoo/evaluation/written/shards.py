"""Embeddings of data sets of any size: a folder of parquet shards, written by any number of processes.

A shard is there whole or not at all, and none is written twice: the command goes on where it was killed.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from ...data.images import MemoryImages
from ...data.splits import Dataset, Split
from ...processes.agree import on_all, on_first, process_group
from ...processes.collectives import rank, world
from ...tools import files
from ...tools.errors import UserError
from ...tools.records import Record, write_json
from ...views.features import BATCH
from ..embedding import Embedding
from ..encode import features_of, preprocessing, rows_of
from ..given.parquet import needed
from ..kept.features import Floats, of_network
from ..results import ShardsResult
from ..sources import EmbedOptions, Source, check_transform, is_features, open_source
from .writing import SPLITS, write

PLAN = ".shards.json"
FORMAT = 2  # of a folder of shards
ROWS = 200 * BATCH  # of a shard, at most: what a process that is killed has to do once more


@dataclass(frozen=True)
class Plan(Record):
    """Says what a folder of shards holds, and how many ``rows_a_shard``; ``images`` counts the rows of each split.

    ``network`` is a hash of the weights, ``pixels`` says what is done to images before them, and ``names`` is a hash of
    the images' names and labels.
    """

    format: int
    source: str
    data: str
    network: str
    pixels: str
    names: str
    images: Mapping[str, int]
    columns: int
    rows_a_shard: int

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-sum(self.images.values()) // self.rows_a_shard)

    def differs_in(self, other: "Plan") -> str | None:
        """Return the name of what is not the same in another plan; None where both say the same of their rows."""
        ours = (field.name for field in fields(self) if field.name != "rows_a_shard")
        return next((name for name in ours if getattr(self, name) != getattr(other, name)), None)


def check_folder(out: Path) -> None:
    """Raise `UserError` for a place where no folder of shards can be, or where something else is."""
    needed(out)
    if not os.path.isdir(out.parent):
        raise UserError(f"There is no folder {out.parent}; make it first or give --out another place.")
    if os.path.lexists(out) and not os.path.isdir(out):
        raise UserError(f"{out} is a file, and shards lie in a folder; give --out another place.")
    if os.path.isdir(out) and not (out / PLAN).exists() and any(not one.startswith(".") for one in os.listdir(out)):
        raise UserError(f"{out} holds files that are no shards of sslzoo's; give --out another place.")


def embed_in_shards(name: str, options: EmbedOptions, out: Path, anew: bool = False) -> ShardsResult:
    """Write the features of every image as shards, and return what this process did; each process has its part.

    The rows have the data's order, through all shards in the order of their names. Shards that are there stay; with
    ``anew`` those of another source or of other data make room. Raises `UserError`.
    """
    if is_features(Path(os.path.expanduser(name)), options.backbone):
        raise UserError(f"{name} holds features and no network; give --out a file, or name a run or a model.")
    check_transform([name], options)
    with process_group():
        source, dataset, device = on_all(lambda: open_source(name, options))
        own = replace(options, cached=False, progress=None)
        columns = on_all(lambda: features_of(source, dataset, _black(dataset), own, device).shape[1])
        plan = on_first(lambda: settled(plan_of(source, dataset, columns), out, anew))
        mine = range(rank(), plan.shards, world())
        left = [number for number in mine if not shard(out, number).exists()]
        for done, number in enumerate(left, 1):
            start = number * plan.rows_a_shard
            parts = pieces(dataset.every_image, start, start + plan.rows_a_shard)
            made = {split: _features(source, dataset, part, own, device, columns) for split, part in parts.items()}
            arrays, gaps = rows_of(dataset, parts, made)
            write(shard(out, number), Embedding(source.label, dataset.name, arrays, gaps=gaps))
            if options.progress is not None and rank() == 0:
                options.progress(source.label, done * plan.rows_a_shard, len(left) * plan.rows_a_shard)
    return ShardsResult(
        source=source.label, data=dataset.name, out=str(out), images=plan.images, columns=columns, shards=plan.shards,
        written=len(left), kept=len(mine) - len(left), bad=dataset.unreadable.rows(), about=source.about,
    )  # fmt: skip


def _features(
    source: Source, dataset: Dataset, part: Split, options: EmbedOptions, device: torch.device, columns: int
) -> Floats:
    """Return the features of a part, which are none where none of its images can be read. Raises `UserError`."""
    try:
        return features_of(source, dataset, part, options, device)
    except UserError:
        if len(part.readable_places()):
            raise
        return np.zeros((0, columns), np.float32)


def plan_of(source: Source, dataset: Dataset, columns: int) -> Plan:
    """Return the plan of a launch: one shard a process, or more of `ROWS` rows each."""
    images = {split: len(part) for split, part in dataset.every_image.items()}
    names = hashlib.blake2b(digest_size=16)
    for part in dataset.every_image.values():
        if part.images.paths:
            names.update("\0".join(part.images.names).encode("utf-8", "surrogateescape"))
        else:
            for content in part.images.fingerprint():
                names.update(content)
        names.update(b"" if part.labels is None else part.labels.numpy().tobytes())
    how = asdict(preprocessing(source, dataset))
    pixels = ", ".join(f"{name} {value}" for name, value in how.items())
    network = of_network(source.net or torch.nn.Identity(), {"precision": source.precision}).hexdigest()
    rows = -(-sum(images.values()) // world())
    rows = min(ROWS, -(-rows // BATCH) * BATCH if rows > BATCH else rows)  # batches as one process would have them
    return Plan(FORMAT, source.label, dataset.name, network, pixels, names.hexdigest(), images, columns, rows)


def settled(plan: Plan, out: Path, anew: bool) -> Plan:
    """Return the plan that a folder has, or give it this one. Raises `UserError` where it has that of other rows."""
    path = out / PLAN
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made ({files.reason(error)}); give --out another place.") from None
    if path.exists():
        there = Plan.read(path, f"{path} is not as it was written; remove {out}, or give --out another place.")
        if (other := plan.differs_in(there)) is None:
            return there
        if not anew:
            raise UserError(
                f"{out} has shards of other rows (not the same {other}); give --out another place, or --force."
            )
        for one in [path, *out.glob("part-*.parquet")]:
            one.unlink(missing_ok=True)
    write_json(path, plan)
    return plan


def shard(out: Path, number: int) -> Path:
    """Return the place of a shard; the order of the names is the order of the rows."""
    return out / f"part-{number:06}.parquet"


def pieces(splits: Mapping[str, Split], start: int, stop: int) -> dict[str, Split]:
    """Return the parts of splits, one behind another in their order, that lie from a row to another."""
    found, before = {}, 0
    several = next((x.labels.shape[1] for x in splits.values() if x.labels is not None and x.labels.ndim == 2), None)
    for name in (name for name in SPLITS if name in splits):
        split = splits[name]
        low, high = max(start - before, 0), min(stop - before, len(split))
        before += len(split)
        if low < high:
            part = split.take(torch.arange(low, high))
            if several is not None and part.labels is None:  # all shards have the same columns
                part = replace(part, labels=torch.full((len(part), several), -1, dtype=torch.int8))
            found[name] = part
    return found


def _black(dataset: Dataset) -> Split:
    """Return one black image, of which a network gives a row."""
    return Split(MemoryImages(torch.zeros(1, dataset.channels, dataset.size, dataset.size, dtype=torch.uint8)))
