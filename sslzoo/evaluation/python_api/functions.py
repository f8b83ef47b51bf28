"""What the commands ``embed`` and ``search`` do, and retrieval of rows, as functions for Python."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data.formats.items import name_of
from ...exchange.transform import Asked
from ...metrics import ranking
from ...metrics.knn import RECALL_AT, counts
from ...metrics.rows import plain
from ...tools.arguments import checked
from ...tools.errors import UserError
from ...training.machine import find_device
from ...training.run import AnyData
from .. import encode
from .. import search as searching
from ..embedding import Embedding
from ..results import SearchResult
from ..sources import EmbedOptions
from ..tasks import make_task


@checked
def embed(
    source: str | Path,
    *,
    data: AnyData | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    backbone: str | None = None,
    layer: str = "encoder",
    network: str | None = None,
    device: str = "auto",
    seed: int = 0,
    workers: int | None = None,
    cached: bool = True,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Embedding:
    """Return the features of every image of a data set, with labels, file names and the names of the classes.

    They are in the result's ``arrays``: "train_features" [N, D], "train_labels" [N] (-1 for none), "train_files",
    likewise of "val" and "test", and "classes". ``source`` is what it is for ``sslzoo embed``: a run directory, an
    expression, "random", "raw", "colours", "timm:NAME", weights or a file of features. ``data`` is what it is
    for `train`, by default the run's own; ``image_size`` is in pixels; ``limit`` takes so many training images only;
    ``backbone`` is that of weights in a file, or of "random"; ``layer`` ("encoder", "projector") is of a run, and
    ``network`` ("online", "target") of a run or of a file that has both; ``device`` is "auto", "cpu", "cuda", "cuda:N"
    or "mps"; ``seed`` draws untrained backbones; ``workers`` is the number of processes that read files; features that
    are ``cached`` are kept on disk.
    ``interpolation``, ``crop_pct``, ``mean`` and ``std`` change what the source's own transform does to images, whose
    pixels are in [0, 1]. Raises `UserError`.
    """
    asked = Asked(interpolation, crop_pct, *(None if one is None else tuple(map(float, one)) for one in (mean, std)))
    options = EmbedOptions(
        data=name_of(data), image_size=image_size, limit=limit, backbone=backbone, layer=layer, network=network,
        device=device, seed=seed, workers=workers, cached=cached, transform=asked,
    )  # fmt: skip
    return encode.embed_alone(_text(source), options, every=True)


@checked
def search(
    source: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    number: int = 10,
    split: str = "train",
    out: str | Path | None = None,
    data: AnyData | None = None,
    image_size: int | None = None,
    backbone: str | None = None,
    network: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> SearchResult:
    """Return the ``number`` nearest images of each of ``images``, by the features of a ``source``.

    An image is a file, or a split and a place as "test:7"; neighbours are of the ``split`` "train" or "test" of
    ``data``, and an image of it is not its own neighbour. ``out`` is a PNG to draw. ``image_size``, ``backbone``,
    ``network``, ``device`` and ``workers`` are those of `embed`. Raises `UserError`.
    """
    if not isinstance(images, str | os.PathLike) and not hasattr(images, "__iter__"):
        raise UserError(f"images cannot be {images!r:.80}; give a file, or a list of them.")
    names = [images] if isinstance(images, str | os.PathLike) else [*images]
    options = EmbedOptions(
        data=name_of(data), device=device, image_size=image_size, backbone=backbone, network=network, workers=workers
    )
    picture = None if out is None else Path(out)
    return searching.search(_text(source), [_text(name) for name in names], options, number, split, picture)


@checked
def retrieval(
    bank: npt.ArrayLike,
    bank_labels: npt.ArrayLike,
    queries: npt.ArrayLike | None = None,
    query_labels: npt.ArrayLike | None = None,
    *,
    at: int | Sequence[int] = RECALL_AT,
    device: str = "cpu",
) -> dict[str, float | None]:
    """Return retrieval metrics by name, their means over the queries that have a positive; None where none has one.

    ``bank`` [N, D] and ``queries`` [M, D] are l2-normalised here; ``bank_labels`` and ``query_labels`` are those of
    `knn`. Without queries each row of the bank asks all others. The metrics are recall@k and precision@k for each k of
    ``at``, R-precision, MAP@R, mAP, MRR, nDCG and more, as ``sslzoo knn`` has them; tied rows count by their expected
    value over all orders. The search is on ``device``. Raises `UserError`.
    """
    if (queries is None) != (query_labels is None):
        raise UserError("Queries come with their labels; give queries and query_labels, or neither.")
    arrays = {"train_features": plain("bank", bank), "train_labels": plain("bank_labels", bank_labels)}
    if queries is not None and query_labels is not None:
        arrays |= {"test_features": plain("queries", queries), "test_labels": plain("query_labels", query_labels)}
    task = make_task(Embedding("The rows", "rows", arrays, device=str(find_device(device))), leave_one_out=False)
    found = {}
    for name, values in ranking.retrieval(task, counts("at", at)).items():
        with_positive = values[~np.isnan(values)]
        found[name] = float(with_positive.mean()) if len(with_positive) else None
    return found


def _text(name: str | Path) -> str:
    """Return a name or a path as text. Raises `UserError` for what is neither."""
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"A name cannot be {name!r:.80}; give a text or a path.")
    return os.fsdecode(name)
