"""``sslzoo knn``, ``embed`` and ``runs``: benchmarks of embeddings, and where they come from."""

import json
from pathlib import Path
from typing import Any

import click

from .. import show
from .expression import AS_JSON, DATA_HELP


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--data", help=DATA_HELP + " By default the runs' own, else digits.")
@click.option(
    "-k", "ks", multiple=True, type=int, help="Neighbours; may be given several times.  [default: 1 5 20 200]"
)
@click.option("--temperature", type=float, default=0.07, show_default=True, help="Of the votes.")
@click.option("--image-size", type=int, help="Size of an image in px.")
@click.option("--limit", type=int, help="Use N training images only.")
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of untrained backbones.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that read image files.")
@AS_JSON
def knn(sources: tuple[str, ...], ks: tuple[int, ...], data: str | None, as_json: bool, **options: Any) -> None:
    """Benchmark embeddings by kNN and recall, with faiss: the whole un-augmented training split is the bank.

    \b
    A SOURCE is a run directory, an expression in quotes (its untrained backbone), random (the default backbone,
    untrained), raw (the pixels), timm:NAME (pretrained), or a file features.npz that 'sslzoo embed' wrote.
    """
    from ..knn import KS
    from ..sources import benchmark

    result = benchmark(sources, data, ks or KS, **options)
    if as_json:
        click.echo(json.dumps(result))
    else:
        show.knn_table(result)


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--data", help=DATA_HELP + " By default the run's own, else digits.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .npz file to write.")
@click.option("--image-size", type=int)
@click.option("--limit", type=int, help="Use N training images only.")
@click.option("--device", default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of an untrained backbone.")
@click.option("--workers", type=int, default=2, show_default=True)
@AS_JSON
def embed(source: str, data: str | None, out: Path, as_json: bool, **options: Any) -> None:
    """Write a source's features and labels as an .npz that 'sslzoo knn' reads."""
    from .. import sources

    sources.check_out(out)
    _, found = sources.embed(source, sources.shared_data([source], data), labelled=False, **options)
    sources.write_features(out, found)
    shapes = {key: list(array.shape) for key, array in found.arrays.items()}
    if as_json:
        click.echo(json.dumps({"source": found.source, "data": found.data, "out": str(out), "arrays": shapes}))
    else:
        show.line(f"{out}: " + ", ".join(f"{key} {shape}" for key, shape in shapes.items()))


@click.command()
@click.option(
    "--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="The folder of run directories."
)
@AS_JSON
def runs(out: Path, as_json: bool) -> None:
    """List the runs."""
    from ..runs import listed

    rows = listed(out)
    if as_json:
        click.echo(json.dumps({"runs": rows}))
    elif rows:
        show.runs_table(rows)
    else:
        show.line(f"There are no runs in {out}; 'sslzoo train simsiam' makes one.")
