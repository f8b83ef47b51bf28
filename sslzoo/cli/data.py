"""``sslzoo data``: what a folder of images holds, before a run finds out."""

import click

from .. import show
from ..tools.errors import UserError
from .expression import AS_JSON, RANGE
from .interrupt import at_work
from .output import emit


@click.group()
def data() -> None:
    """Look at data before a run does."""


@data.command()
@click.argument("folder", metavar="FOLDER")
@click.option("--image-size", type=int, help="Size of a view in px; by default the images' own, at most 224.")
@RANGE
@click.option("--workers", type=int, help="Images that are read at a time; by default cores less one, 2 to 16.")
@AS_JSON
def check(folder: str, image_size: int | None, range: str | None, workers: int | None, as_json: bool) -> None:
    """Read every image of a folder (or of data in another form) once, and say what a run would make of it.

    Ends with an error where a run would: too many images that cannot be read, or too few that can.

    \b
    sslzoo data check path/to/images
    sslzoo data check path/to/images --json > report.json
    """
    from ..data.survey import survey

    at_work()
    with show.Bar() as bar:
        report, why = survey(folder, image_size, workers, bar.at, range)
    if as_json:
        emit(report.to_json())
    else:
        show.survey_page(report)
    if why:
        raise UserError(why)
