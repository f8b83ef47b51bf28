"""``sslzoo cluster``: images grouped by their features."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import show
from .bench import FORCE, PNG
from .expression import AS_JSON
from .interrupt import at_work
from .output import emit
from .sources import explained, source_options

if TYPE_CHECKING:
    from ..evaluation.sources import EmbedOptions


@click.command()
@click.argument("source", metavar="SOURCE")
@source_options
@click.option("--k", type=int, help="Clusters, by spherical k-means.  [default: as many as HDBSCAN finds]")
@click.option("--near", type=float, default=0.99, show_default=True, help="Cosine similarity of near-duplicates.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .csv or .parquet to write.")
@click.option("--montage", type=PNG, help="A PNG of clusters, outliers and near-duplicates.")
@FORCE
@AS_JSON
@explained
def cluster(
    source: str, options: "EmbedOptions", k: int | None, near: float, out: Path, montage: Path | None, force: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Group the images of a data set by their features: clusters, near-duplicates and outliers, with their files.

    \b
    sslzoo cluster runs/simclr-photos-s0-1 --out clusters.csv --montage clusters.png
    sslzoo cluster timm:resnet50 --data path/to/images --k 20 --out clusters.csv

    \b
    The table has a row for each image, empty for one that cannot be read:
    file, split, label
    cluster, similarity   0 is the largest, none is empty; the cosine to its centre
    nearest               the image most like it, and nearest_similarity
    duplicates            the number of its group of near-duplicates
    outlier_factor        the local outlier factor; an outlier has more than 1.5
    """
    from ..evaluation.cluster import Grouping
    from ..evaluation.cluster import cluster as group
    from ..tools.files import check_replaced

    for option, path in (("--out", out), ("--montage", montage)):
        if path is not None:
            check_replaced(path, option, [source, *options.places], force)
    how = Grouping(k, near, options.seed)
    at_work()
    with show.Bar() as bar:
        result = group(source, replace(options, progress=bar.at), how, out, montage)
    if as_json:
        emit(result.to_json())
    else:
        show.clusters_table(result)
        show.left_out(result.bad)
