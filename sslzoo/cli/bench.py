"""``sslzoo knn``, ``embed``, ``search`` and ``runs``: benchmarks of embeddings, and where they come from."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import show
from ..processes.launched import rank, world_size
from ..tools.errors import UserError
from .expression import AS_JSON
from .interrupt import at_work
from .output import emit
from .sources import explained, source_options

if TYPE_CHECKING:
    from ..evaluation.sources import EmbedOptions

FORCE = click.option("--force", is_flag=True, help="Replace a file that is there and that sslzoo did not write.")
FILE = PNG = click.Path(path_type=Path)


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@source_options
@click.option("--bank", type=FILE, help="A file of features, among which neighbours are searched.")
@click.option("--bank-labels", type=FILE, help="A file of their labels, where that file has none.")
@click.option("--queries", type=FILE, help="A file of features that ask.  [default: the bank asks itself]")
@click.option("--query-labels", type=FILE, help="A file of their labels.")
@click.option("--protocol", "protocols", multiple=True, help="By name, several allowed; 'sslzoo protocols' lists them.")
@click.option("-k", "ks", multiple=True, type=int, help="Neighbours, several allowed.  [default: 1 5 20 200]")
@click.option("--temperature", type=float, help="Of the votes.  [default: 0.07]")
@click.option("--leave-one-out", is_flag=True, help="The test split is its own bank, each query without its own row.")
@click.option("--retrieval", default="auto", show_default=True, help="auto (a sample of the queries where all would "
              "take long), all or none.")  # fmt: skip
@click.option("--index", "indexes", multiple=True, help="flat, or any of faiss' factory, with parameters behind a "
              "colon: 'IVF1024,Flat:nprobe=16'; several are compared.")  # fmt: skip
@click.option("--index-dir", type=click.Path(path_type=Path), help="A folder where indexes are kept and found again, "
              "inverted lists on disk.")  # fmt: skip
@click.option("--probe", is_flag=True, help="A linear probe beside: logistic regression, its C by cross-validation.")
@click.option("--gallery", "gallery", type=PNG, help="A PNG of the first source's worst and best queries.")
@click.option("--tradeoff", "tradeoff", type=PNG, help="A PNG of its indexes: recall against queries a second.")
@click.option("--map", "plane", type=PNG, help="A PNG of its test rows in a plane.")
@click.option("--map-by", "plane_by", default="pca", show_default=True, help="pca or tsne.")
@FORCE
@AS_JSON
@explained
def knn(
    sources: tuple[str, ...], options: "EmbedOptions", bank: Path | None, bank_labels: Path | None,
    queries: Path | None, query_labels: Path | None, protocols: tuple[str, ...], ks: tuple[int, ...],
    temperature: float | None, leave_one_out: bool, retrieval: str, indexes: Sequence[str], index_dir: Path | None,
    probe: bool, gallery: Path | None, tradeoff: Path | None, plane: Path | None, plane_by: str, force: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Benchmark embeddings by kNN and retrieval, with faiss: the whole un-augmented training split is the bank.

    \b
    sslzoo knn runs/simsiam-digits-s0-1 random raw
    sslzoo knn runs/simsiam-* --protocol monitor --protocol dino
    sslzoo knn features.npz --index flat --index HNSW32 --index IVF1024,Flat:nprobe=16
    sslzoo knn embeddings.parquet --column labels=species --hold-out 0.2
    sslzoo knn --bank a.npy --bank-labels a.csv --queries b.parquet --query-labels b.csv
    """
    from ..evaluation.benchmark import Pictures, Request, benchmark
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.given.banks import Given
    from ..evaluation.protocols import chosen
    from ..tools.files import check_replaced, write

    for option, path in (("--gallery", gallery), ("--map", plane), ("--tradeoff", tradeoff)):
        if path is not None:
            read = [str(one) for one in (bank, bank_labels, queries, query_labels) if one is not None]
            check_replaced(path, option, [*sources, *options.places, *read], force)
    places = [os.path.realpath(path) for path in (gallery, plane, tradeoff) if path is not None]
    if len({*places}) < len(places):
        raise UserError("--gallery, --map and --tradeoff cannot be one file; give each its own.")
    evaluation = Evaluation(
        chosen(protocols, ks, temperature), leave_one_out, retrieval, indexes, index_dir, probe, options.seed
    )
    at_work()
    with show.Bar() as bar:
        pictures = Pictures(gallery, plane, plane_by, tradeoff)
        given = Given(bank, bank_labels, queries, query_labels)
        made = benchmark(Request(sources, evaluation, replace(options, progress=bar.at), pictures, given))
    if as_json:
        emit(made.result.to_json())
    else:
        show.knn_tables(made.result)
        show.left_out(made.result.bad)
    for path, picture in made.pictures.items():
        write(path, picture, "make room or choose another place")
    if made.missing:
        raise UserError(made.missing)


@click.command()
@click.argument("source", metavar="SOURCE")
@source_options
@click.option("--out", required=True, type=FILE, help="The file to write: .npz, .csv or .parquet; a name without "
              "suffix is a folder of parquet shards, which any number of processes write.")  # fmt: skip
@FORCE
@AS_JSON
@explained
def embed(source: str, options: "EmbedOptions", out: Path, force: bool, as_json: bool) -> None:
    """Write a source's features, with file, split and label of each image, as a table or an .npz.

    \b
    sslzoo embed runs/simclr-photos-s0-1 --out photos.csv
    sslzoo embed timm:resnet50 --data path/to/images --out photos.parquet
    torchrun --nproc-per-node 8 -m sslzoo embed timm:resnet50 --data path/to/images --out shards
    """
    from ..evaluation import encode
    from ..evaluation.results import EmbedResult
    from ..evaluation.written.writing import WRITERS, check_out, write
    from ..tools.files import check_replaced

    if out.name and (not out.suffix or (out.suffix not in WRITERS and out.is_dir())):
        _embed_in_shards(source, options, out, force, as_json)
        return
    if world_size() > 1:
        raise UserError(f"--out {out} is written by one process; give a folder, a name without a suffix, for many.")
    check_out(out)
    check_replaced(out, "--out", [source, *options.places], force)
    at_work()
    with show.Bar() as bar:
        embedding = encode.embed_alone(source, replace(options, progress=bar.at), every=out.suffix != ".npz")
    write(out, embedding)
    bad = embedding.images.unreadable.rows() if embedding.images is not None else ()
    shapes = {key: list(array.shape) for key, array in embedding.arrays.items()}
    if as_json:
        emit(EmbedResult(embedding.source, embedding.data, str(out), shapes, bad, embedding.about).to_json())
    else:
        show.about(embedding.source, embedding.about)
        show.left_out(bad)
        if embedding.note:
            show.line(f"Warning: {embedding.source}: {embedding.note}", stderr=True)
        show.line(f"{out}: " + ", ".join(f"{key} {shape}" for key, shape in shapes.items()))


def _embed_in_shards(source: str, options: "EmbedOptions", out: Path, force: bool, as_json: bool) -> None:
    """Write shards, of which the first process tells what it did."""
    from ..evaluation.written.shards import check_folder, embed_in_shards

    check_folder(out)
    at_work()
    with show.Bar() as bar:
        result = embed_in_shards(source, replace(options, progress=bar.at), out, force)
    if rank() > 0:
        return
    if as_json:
        emit(result.to_json())
        return
    show.about(result.source, result.about)
    show.left_out(result.bad)
    rows, there = sum(result.images.values()), f" ({result.kept:,} were there)" if result.kept else ""
    own = result.written + result.kept
    some = "" if own == result.shards else f", {own:,} of them by this process"
    show.line(
        f"{out}: {rows:,} rows [{result.columns}] in {result.shards:,} shard{'s' * (result.shards > 1)}{some}{there}"
    )


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@source_options
@click.option("-n", "number", type=int, default=10, show_default=True, help="Neighbours of each image.")
@click.option("--split", default="train", show_default=True, help="Where to look: train or test.")
@click.option("--out", type=click.Path(path_type=Path), help="A PNG of each image beside its neighbours.")
@FORCE
@AS_JSON
@explained
def search(
    source: str,
    images: tuple[str, ...],
    options: "EmbedOptions",
    number: int,
    split: str,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Find the nearest images of a data set: each IMAGE is a file, or test:N or train:N, the N-th of a split.

    \b
    sslzoo search runs/simsiam-digits-s0-1 test:0 test:7 -n 8 --out gallery.png
    sslzoo search timm:resnet50 mine.jpg --data path/to/images --json
    """
    from ..evaluation.search import search as find
    from ..tools.files import check_replaced

    if out is not None:
        check_replaced(out, "--out", [source, *options.places, *images], force)
    at_work()
    with show.Bar() as bar:
        result = find(source, images, replace(options, progress=bar.at), number, split, out)
    if as_json:
        emit(result.to_json())
    else:
        show.neighbours_table(result)
        show.left_out(result.bad)


@click.command()
@AS_JSON
def protocols(as_json: bool) -> None:
    """List the protocols of kNN."""
    from ..evaluation import protocols as known

    shipped = [known.find(name) for name in known.names()]
    if as_json:
        emit({"protocols": [one.to_json() for one in shipped]})
    else:
        for one in shipped:
            show.line(f"{one.summary} ({one.title})")


@click.command()
@click.option(
    "--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="The folder of run directories."
)
@AS_JSON
def runs(out: Path, as_json: bool) -> None:
    """List the runs."""
    from ..training.runs import listed

    rows = listed(out)
    if as_json:
        emit({"runs": [row.to_json() for row in rows]})
    elif rows:
        show.runs_table(rows)
    else:
        show.line(f"There are no runs in {out}; 'sslzoo train simsiam' makes one.")
