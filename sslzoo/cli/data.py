"""``sslzoo data``: what a folder of images holds, before a run finds out."""

from typing import Any

import click

from .. import show
from ..tools.errors import UserError
from .expression import AS_JSON, data_options
from .interrupt import at_work
from .output import emit


@click.group()
def data() -> None:
    """Look at data before a run does."""


@data.command()
@click.argument("folder", metavar="[FOLDER]", required=False)
@data_options
@click.option("--workers", type=int, help="Images that are read at a time; by default cores less one, 2 to 16.")
@AS_JSON
def check(folder: str | None, workers: int | None, as_json: bool, **given: Any) -> None:
    """Read every image of a folder (or of data in another form) once, and say what a run would make of it.

    Ends with an error where a run would: too many images that cannot be read, or too few that can.

    \b
    sslzoo data check path/to/images
    sslzoo data check path/to/images --json > report.json
    sslzoo data check --train path/to/train --test path/to/test --labels labels.csv

    FOLDER is --data, and --train takes its place.
    """
    from ..data.given.options import DataOptions
    from ..data.survey import survey

    if folder is not None and given["data"] is not None:
        raise UserError("FOLDER and --data are the same; give one of the two.")
    if given["limit"] is not None:
        raise UserError("--limit would leave images unread, and all of them are checked; leave it out.")
    options = DataOptions(**{**given, "data": given["data"] if folder is None else folder})
    if not options.named:
        raise UserError("Name the data to check, as in 'sslzoo data check path/to/images'.")
    at_work()
    with show.Bar() as bar:
        report, why = survey(options, workers, bar.at)
    if as_json:
        emit(report.to_json())
    elif report.images or not why:
        show.survey_page(report)
    if why:
        raise UserError(why)
