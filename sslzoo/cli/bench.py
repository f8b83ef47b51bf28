"""``sslzoo knn``, ``embed``, ``search`` and ``runs``: benchmarks of embeddings, and where they come from."""

import json
from pathlib import Path
from typing import Any

import click

from .. import show
from ..tools.errors import UserError
from ..tools.records import plain
from .expression import AS_JSON, DATA_HELP, PLUGIN, Command, stacked

source_options = stacked(
    click.option("--data", help=DATA_HELP + " By default the runs' own, else digits."),
    click.option("--image-size", type=int, help="Size of an image in px."),
    click.option("--limit", type=int, help="Use N training images only."),
    click.option("--backbone", help="Of weights in a file, or of 'random'."),
    click.option("--layer", default="encoder", show_default=True, help="Of a run: encoder or projector."),
    click.option("--network", default="online", show_default=True, help="Of a run: online or target."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of untrained backbones and of what is drawn."),
    click.option("--workers", type=int, help="Processes that read image files; by default cores less one, 2 to 16."),
    click.option("--cache/--no-cache", "cached", default=True, help="Keep features on disk and use them again."),
    PLUGIN,
)
PNG = click.Path(path_type=Path)
SOURCES_HELP = """
    A SOURCE is a run directory, an expression in quotes (its untrained backbone), random (the default backbone,
    untrained), raw (the pixels), timm:NAME or torchvision:NAME (pretrained), weights in a .safetensors or .pt file
    with --backbone, or features: an .npz that 'sslzoo embed' wrote, or a folder of .npy files.
"""


def explained(command: Command) -> Command:
    """A command whose help ends with what a source is."""
    command.__doc__ = (command.__doc__ or "") + "\n    \b" + SOURCES_HELP
    return command


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@source_options
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
@click.option("--gallery", "gallery_path", type=PNG, help="A PNG of the first source's worst and best queries.")
@click.option("--tradeoff", "tradeoff_path", type=PNG, help="A PNG of its indexes: recall against queries a second.")
@click.option("--map", "plane_path", type=PNG, help="A PNG of its test rows in a plane.")
@click.option("--map-by", default="pca", show_default=True, help="pca or tsne.")
@AS_JSON
@explained
def knn(sources: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Benchmark embeddings by kNN and retrieval, with faiss: the whole un-augmented training split is the bank.

    \b
    sslzoo knn runs/simsiam-digits-s0-1 random raw
    sslzoo knn runs/simsiam-* --protocol monitor --protocol dino
    sslzoo knn features.npz --index flat --index HNSW32 --index IVF1024,Flat:nprobe=16
    """
    from ..evaluation.benchmark import benchmark
    from ..tools.files import write

    with show.Bar() as bar:
        result, pictures, missing = benchmark(sources, progress=bar.at, **options)
    if as_json:
        click.echo(json.dumps(result))
    else:
        show.knn_tables(result)
        show.left_out(result["bad"])
    for path, picture in pictures.items():
        write(path, picture, "make room or choose another place")
    if missing:
        raise UserError(missing)


@click.command()
@click.argument("source", metavar="SOURCE")
@source_options
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .npz file to write.")
@AS_JSON
@explained
def embed(source: str, data: str | None, out: Path, as_json: bool, **options: Any) -> None:
    """Write a source's features and labels as an .npz that 'sslzoo knn' reads."""
    from ..evaluation import sources
    from ..tools.files import check_out

    check_out(out, ".npz")
    with show.Bar() as bar:
        found = sources.embed(source, sources.Look(sources.shared_data([source], data), progress=bar.at, **options))
    sources.write_features(out, found)
    bad = plain(found.images.unreadable.rows()) if found.images is not None else []
    shapes = {key: list(array.shape) for key, array in found.arrays.items()}
    if as_json:
        click.echo(
            json.dumps({"source": found.source, "data": found.data, "out": str(out), "arrays": shapes, "bad": bad})
        )
    else:
        show.left_out(bad)
        show.line(f"{out}: " + ", ".join(f"{key} {shape}" for key, shape in shapes.items()))


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@source_options
@click.option("-n", "number", type=int, default=10, show_default=True, help="Neighbours of each image.")
@click.option("--split", default="train", show_default=True, help="Where to look: train or test.")
@click.option("--out", type=click.Path(path_type=Path), help="A PNG of each image beside its neighbours.")
@AS_JSON
@explained
def search(source: str, images: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find the nearest images of a data set: each IMAGE is a file, or test:N or train:N, the N-th of a split.

    \b
    sslzoo search runs/simsiam-digits-s0-1 test:0 test:7 -n 8 --out gallery.png
    sslzoo search timm:resnet50 mine.jpg --data path/to/images --json
    """
    from ..evaluation.search import search as find

    with show.Bar() as bar:
        result = find(source, images, progress=bar.at, **options)
    if as_json:
        click.echo(json.dumps(result))
    else:
        show.neighbours_table(result)
        show.left_out(result["bad"])


@click.command()
@AS_JSON
def protocols(as_json: bool) -> None:
    """List the protocols of kNN."""
    from ..evaluation import protocols as known

    found = [known.find(name) for name in known.names()]
    if as_json:
        click.echo(json.dumps({"protocols": [vars(one) for one in found]}))
    else:
        for one in found:
            show.line(f"{one.said()} ({one.title})")


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
        click.echo(json.dumps({"runs": [row.to_json() for row in rows]}))
    elif rows:
        show.runs_table(rows)
    else:
        show.line(f"There are no runs in {out}; 'sslzoo train simsiam' makes one.")
