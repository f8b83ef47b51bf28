"""What ``sslzoo knn`` does: many sources on one data set, a row each, and pictures of the first."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import index
from ..metrics.knn import nearest
from ..tools.errors import UserError, listing
from ..tools.files import check_out
from ..tools.records import plain
from . import gallery, pictures
from . import protocols as known
from .evaluate import Task, evaluate, look_over, seeds_together
from .sources import Embedding, Look, embed, shared_data

RETRIEVAL, PLANES = ("auto", "all", "none"), ("pca", "tsne")
SHOWN = 8  # queries of each kind in a gallery, and neighbours of each
POINTS = 3000  # of a plane
Row = dict[str, Any]


def benchmark(
    sources: Sequence[str], data: str | None = None, protocols: Sequence[str] = (), ks: Sequence[int] = (),
    temperature: float | None = None, leave_one_out: bool = False, retrieval: str = "auto",
    indexes: Sequence[str] = (), probe: bool = False, gallery_path: Path | None = None,
    plane_path: Path | None = None, map_by: str = "pca", tradeoff_path: Path | None = None,
    index_dir: Path | None = None, **options: Any,
) -> tuple[Row, dict[Path, bytes], str | None]:  # fmt: skip
    """What ``sslzoo knn --json`` prints, pictures to write, and the sentence about labels that are missing, if any.

    Raises `UserError`.
    """
    if not sources:
        raise UserError("Name at least one source: a run directory, random, raw, timm:NAME or features.npz.")
    chosen = known.chosen(tuple(protocols), tuple(ks), temperature)
    for name, value, allowed in (("--retrieval", retrieval, RETRIEVAL), ("--map-by", map_by, PLANES)):
        if value not in allowed:
            raise UserError(f"{name} cannot be {value!r}; it is {listing(allowed)}.")
    for option, out in (("--gallery", gallery_path), ("--map", plane_path), ("--tradeoff", tradeoff_path)):
        if out is not None:
            check_out(out, ".png", option)
    if index_dir is not None and not index_dir.is_dir():
        raise UserError(f"There is no folder {index_dir}; make it first or leave --index-dir out.")
    if tradeoff_path is not None and not indexes:
        raise UserError("--tradeoff shows indexes; name some with --index, as in --index flat --index HNSW32.")
    look = Look(shared_data(sources, data), **options)
    rows, names, missing, first = [], [], None, None
    for source in sources:
        started = time.time()
        embedding = embed(source, look)
        if gallery_path is not None and first is None and embedding.images is None:
            raise UserError(f"{source} holds features alone, and a gallery shows images; name a run or a model first.")
        names.append(embedding.data)
        try:
            row = evaluate(embedding, chosen, leave_one_out, retrieval, indexes, probe, look.seed, index_dir)
        except UserError as error:
            if any(key.endswith("labels") for key in embedding.arrays):
                raise
            missing = str(error)
            row = {"source": embedding.source, "dimension": embedding.features.shape[1], "knn": None, "recall": None}
            row["health"] = look_over(embedding)
        rows.append({**row, "seconds": time.time() - started})
        first = first or embedding
    assert first is not None
    drawn: dict[Path, bytes] = {}
    if gallery_path is not None and not missing:
        drawn[gallery_path] = worst_and_best(first, leave_one_out)
    if plane_path is not None:
        drawn[plane_path] = pictures.plane(*in_a_plane(first, map_by, look.seed), first.source, map_by)
    if tradeoff_path is not None and not missing:
        drawn[tradeoff_path] = pictures.tradeoff(rows[0]["indexes"], rows[0]["source"])
    labelled = [row for row in rows if row["knn"] is not None]
    bad = plain(first.images.unreadable.rows()) if first.images is not None else []
    about = {
        "data": ", ".join(sorted(set(names))),
        "protocol": said(chosen, rows[0], first.device),
        "rows": rows,
        "bad": bad,
    }
    return {**about, "groups": seeds_together(labelled)}, drawn, missing


def said(chosen: Sequence[known.Protocol], row: Row, device: str = "cpu") -> Row:
    """What the numbers mean, for the output; a row says whether a set is its own bank."""
    bank = "the queries' own split, less the query" if row.get("leave_one_out") else "whole training split"
    return {
        "name": chosen[0].name, "names": [one.said() for one in chosen],
        "bank": f"{bank}, no augmentation, eval mode", "features": "l2-normalised",
        "index": index.said(device), "weights": "exp(similarity / temperature), or one vote each",
        "k": list(chosen[0].k), "temperature": chosen[0].temperature,
        "ties": "rows within 1e-6 of the k-th similarity share its votes; m equal classes earn 1/m",
        "intervals": "95%, bootstrap over the queries",
    }  # fmt: skip


def worst_and_best(embedding: Embedding, leave_one_out: bool) -> bytes:
    """A gallery of the queries with the fewest and the most neighbours of their class, and of these neighbours."""
    assert embedding.images is not None
    task = Task.of(embedding, leave_one_out)
    similar, near = (found[:, :SHOWN] for found in nearest(task.bank, task.queries, SHOWN, task.own, task.search))
    data = embedding.images
    queries = data.test if data.test is not None else data.bank
    bank = queries if task.own is not None else data.bank
    right = task.labels[near] == task.truth[:, None]
    order = np.lexsort((np.arange(len(right)), -similar.mean(axis=1), right.mean(axis=1)))  # sure and wrong first
    rows = []
    for what, places in (("worst", order[:SHOWN]), ("best", order[::-1][:SHOWN])):
        for i in places:
            asked = gallery.Tile(gallery.pictures(queries, [int(i)], data.size)[0], f"class {task.truth[i]}")
            shown = gallery.pictures(bank, near[i].tolist(), data.size)
            tiles = [
                gallery.Tile(picture, f"{s:.3f} class {task.labels[n]}", bool(ok))
                for picture, s, n, ok in zip(shown, similar[i], near[i], right[i], strict=True)
            ]
            rows.append((f"{what}: query {i}, {right[i].sum()} of {len(near[i])} of its class", [asked, *tiles]))
    return gallery.png(rows)


def in_a_plane(embedding: Embedding, how: str, seed: int) -> tuple[Any, Any]:
    """Two coordinates [N, 2] of a seeded sample of test rows, and their labels or None."""
    split = "test" if "test_features" in embedding.arrays else "train"
    rows, labels = embedding.arrays[f"{split}_features"], embedding.arrays.get(f"{split}_labels")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:POINTS])
    some = np.asarray(rows[chosen], np.float64)
    if min(some.shape) < 3 or not np.isfinite(some).all():
        raise UserError(f"{embedding.source} has too few rows or columns for --map, or some that are not finite.")
    some /= np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12)
    if how == "tsne":
        from sklearn.manifold import TSNE

        reducer: Any = TSNE(random_state=seed, perplexity=min(30, max(1, len(some) // 4)))
    else:
        from sklearn.decomposition import PCA

        reducer = PCA(2, random_state=seed)
    points = reducer.fit_transform(some)
    return points, None if labels is None or np.ndim(labels) > 1 else np.asarray(labels)[chosen]
