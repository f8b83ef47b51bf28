"""What ``sslzoo knn`` does: many sources on one data set, a row each, and pictures of the first."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import index
from ..metrics.neighbours import ranked
from ..metrics.task import alike
from ..tools.errors import UserError, listing
from ..tools.files import check_out
from ..tools.labels import SEVERAL, asking, caption, several
from ..training.machine import find_device
from .drawn import gallery, planes
from .embedding import Embedding
from .encode import embed
from .evaluate import Evaluation, evaluate, group_by_seed, health_of
from .given.banks import Given, embedding_between
from .protocols import Protocol
from .results import BenchmarkResult, BenchmarkRow, Meaning, UnlabelledRow
from .sources import EmbedOptions, check_transform, check_used, files_among, shared_data, shared_reading
from .tasks import make_task

RETRIEVAL, PLANES = ("auto", "all", "none"), ("pca", "tsne")
SHOWN = 8  # queries of each kind in a gallery, and neighbours of each
POINTS = 3000  # of a plane


@dataclass(frozen=True)
class Pictures:
    """Says which PNG files are drawn of the first source.

    ``gallery`` shows its worst and best queries, ``plane`` its test rows in two dimensions by ``plane_by`` ("pca" or
    "tsne"), and ``tradeoff`` its indexes.
    """

    gallery: Path | None = None
    plane: Path | None = None
    plane_by: str = "pca"
    tradeoff: Path | None = None


@dataclass(frozen=True)
class Request:
    """Says what ``sslzoo knn`` is to do: embed the sources, measure them, and draw pictures.

    A bank and queries that are ``given`` come first.
    """

    sources: Sequence[str]
    evaluation: Evaluation
    options: EmbedOptions = field(default_factory=EmbedOptions)
    pictures: Pictures = field(default_factory=Pictures)
    given: Given = field(default_factory=Given)


@dataclass(frozen=True)
class Benchmark:
    """Holds what came of a request: the result, the pictures to write, and a sentence on missing labels, if any."""

    result: BenchmarkResult
    pictures: Mapping[Path, bytes]
    missing: str | None


def benchmark(request: Request) -> Benchmark:
    """Return what came of a request; nothing is written but features and indexes that are kept. Raises `UserError`."""
    check_request(request)
    options, sources = request.options, request.sources
    options = shared_reading(sources, shared_data(sources, options))
    wanted, drawn = request.evaluation, request.pictures
    check_transform(sources, options)
    rows: list[BenchmarkRow | UnlabelledRow] = []
    names, missing, first = [], None, None
    started = time.time()
    for source, embedding in embeddings(request, options):
        if drawn.gallery is not None and first is None and embedding.images is None:
            raise UserError(f"{source} holds features alone, and a gallery shows images; name a run or a model first.")
        names.append(embedding.data)
        row: BenchmarkRow | UnlabelledRow
        try:
            row = evaluate(embedding, wanted)
        except UserError as error:
            if any(key.endswith("labels") for key in embedding.arrays):
                raise
            missing = str(error)
            width = embedding.features.shape[1]
            row = UnlabelledRow(source=embedding.source, dimension=width, health=health_of(embedding))
        if isinstance(row, BenchmarkRow) and embedding.note is not None:
            row = replace(row, note="; ".join(note for note in (embedding.note, row.note) if note))
        rows.append(replace(row, about=embedding.about, seconds=time.time() - started))
        started = time.time()
        first = first or embedding
    assert first is not None
    labelled = [row for row in rows if isinstance(row, BenchmarkRow)]
    files: dict[Path, bytes] = {}
    if drawn.gallery is not None and not missing:
        files[drawn.gallery] = worst_and_best(first, wanted.leave_one_out)
    if drawn.plane is not None:
        points, labels = in_a_plane(first, drawn.plane_by, options.seed)
        several_labels = any(several(rows) for name, rows in first.arrays.items() if name.endswith("_labels"))
        how = f"{drawn.plane_by} (several labels a row: one colour)" if several_labels else drawn.plane_by
        files[drawn.plane] = planes.plane(points, labels, first.source, how, first.names)
    if drawn.tradeoff is not None and not missing:
        files[drawn.tradeoff] = planes.tradeoff(labelled[0].indexes, labelled[0].source)
    result = BenchmarkResult(
        data=", ".join(sorted(set(names))),
        protocol=meaning(wanted.protocols, rows, first.device),
        rows=rows,
        bad=first.images.unreadable.rows() if first.images is not None else (),
        groups=group_by_seed(labelled),
    )
    return Benchmark(result, files, missing)


def embeddings(request: Request, options: EmbedOptions) -> Iterator[tuple[str, Embedding]]:
    """Yield each source with its embedding: the bank and the queries that are given, then the others."""
    if request.given:
        found = embedding_between(request.given, options.reading)
        yield found.source, replace(found, device=str(find_device(options.device)))
    for source in request.sources:
        yield source, embed(source, options)


def check_request(request: Request) -> None:
    """Raise `UserError` for a request that cannot be met, as far as that is known before any source is read."""
    wanted, drawn = request.evaluation, request.pictures
    files = files_among(request.sources, request.options)
    if len(files) == len(request.sources):
        check_used(files or [str(request.given.bank)], request.options)
    if request.options.reading.asked and not (files or request.given):
        raise UserError("--column and --hold-out are for files of features, and no source is one; leave them out.")
    if not (request.sources or request.given):
        raise UserError(
            "Name at least one source: a run directory, random, raw, colours, timm:NAME, features.npz, or --bank."
        )
    for name, value, allowed in (
        ("--retrieval", wanted.retrieval, RETRIEVAL),
        ("--map-by", drawn.plane_by, PLANES),
    ):
        if value not in allowed:
            raise UserError(f"{name} cannot be {value!r}; it is {listing(allowed)}.")
    for option, out in (("--gallery", drawn.gallery), ("--map", drawn.plane), ("--tradeoff", drawn.tradeoff)):
        if out is not None:
            check_out(out, ".png", option)
    if wanted.index_dir is not None and not wanted.index_dir.is_dir():
        raise UserError(f"There is no folder {wanted.index_dir}; make it first or leave --index-dir out.")
    if drawn.tradeoff is not None and not wanted.indexes:
        raise UserError("--tradeoff shows indexes; name some with --index, as in --index flat --index HNSW32.")


def meaning(
    protocols: Sequence[Protocol], rows: Sequence[BenchmarkRow | UnlabelledRow], device: str = "cpu"
) -> Meaning:
    """Return what the numbers of rows mean; the first says whether a set is its own bank."""
    labelled = [row for row in rows if isinstance(row, BenchmarkRow)]
    alone = isinstance(rows[0], BenchmarkRow) and rows[0].leave_one_out
    bank = "the queries' own split, less the query" if alone else "whole training split"
    return Meaning(
        name=protocols[0].name,
        names=[one.summary for one in protocols],
        bank=f"{bank}, no augmentation, eval mode",
        index=index.exact_by(device),
        k=protocols[0].k,
        temperature=protocols[0].temperature,
        several=SEVERAL if any(row.labels is not None for row in labelled) else None,
    )


def worst_and_best(embedding: Embedding, leave_one_out: bool) -> bytes:
    """Return a gallery of the queries with the fewest and the most neighbours of their class, beside these."""
    assert embedding.images is not None
    task = make_task(embedding, leave_one_out)
    similar, near = ranked(task, SHOWN)
    data, names = embedding.images, embedding.names
    queries = data.test if data.test is not None else data.bank
    asked = np.flatnonzero(asking(embedding.arrays["train_labels" if data.test is None else "test_labels"]))
    bank = queries if task.excluded is not None else data.bank
    files = {id(split): split.images.names if split.images.paths else [""] * len(split) for split in (queries, bank)}
    right, alike_by = alike(task, near), "with one of its labels" if task.multi_label else "of its class"
    order = np.lexsort((np.arange(len(right)), -similar.mean(axis=1), right.mean(axis=1)))  # sure and wrong first
    rows = []
    for kind, chosen in (("worst", order[:SHOWN]), ("best", order[::-1][:SHOWN])):
        for i in chosen:
            picture = gallery.pictures(queries, [int(asked[i])], data.size)[0]
            own = files[id(queries)][asked[i]]
            query = gallery.Tile(picture, caption(task.query_labels[i], names), name=own)
            neighbours = gallery.pictures(bank, near[i].tolist(), data.size)
            tiles = [
                gallery.Tile(picture, f"{s:.3f} {caption(task.bank_labels[n], names)}", bool(ok), files[id(bank)][n])
                for picture, s, n, ok in zip(neighbours, similar[i], near[i], right[i], strict=True)
            ]
            rows.append(
                (f"{kind}: query {own or asked[i]}, {right[i].sum()} of {len(near[i])} {alike_by}", [query, *tiles])
            )
    return gallery.png(rows)


def in_a_plane(
    embedding: Embedding, how: str, seed: int
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any] | None"]:
    """Return two coordinates [N, 2] of a seeded sample of test rows, and their classes. Raises `UserError`.

    The classes are None where there are none, and where rows have several labels.
    """
    split = "test" if "test_features" in embedding.arrays else "train"
    rows, labels = embedding.arrays[f"{split}_features"], embedding.arrays.get(f"{split}_labels")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:POINTS])
    sample = np.asarray(rows[chosen], np.float64)
    if min(sample.shape) < 3 or not np.isfinite(sample).all():
        raise UserError(f"{embedding.source} has too few rows or columns for --map, or some that are not finite.")
    sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1e-12)
    if how == "tsne":
        from sklearn.manifold import TSNE

        reducer: Any = TSNE(random_state=seed, perplexity=min(30, max(1, len(sample) // 4)))
    else:
        from sklearn.decomposition import PCA

        reducer = PCA(2, random_state=seed)
    points = reducer.fit_transform(sample)
    return points, None if labels is None or several(labels) else np.ravel(labels)[chosen]
