"""``sslzoo ablate`` and ``sslzoo study``: tables of runs."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

import click

from .. import show
from ..tools.errors import UserError
from ..tools.progress import listening
from .expression import AS_JSON, EXPRESSION, MINUTES, ExpressionCommand, data_options, stacked, training_options
from .interrupt import at_work
from .output import emit
from .train import STOPPED

if TYPE_CHECKING:
    from ..studies.results import Table
    from ..studies.setting import Given

table_options = stacked(
    click.option("--out", default="runs", show_default=True, help="The folder of the table's own folder."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors (and the JSON object)."),
    AS_JSON,
)


def run_table(train: Callable[[show.CellsScreen], "Table"], as_json: bool, quiet: bool) -> None:
    """Train a table with a screen and print what came of it. Raises `UserError`."""
    from ..training.guards import Interrupted
    from ..training.machine import keep_memory

    at_work()
    keep_memory()
    screen = show.CellsScreen(as_json, quiet)
    try:
        with listening(screen.work):
            table = train(screen)
    except (Interrupted, KeyboardInterrupt):
        screen.close()
        show.line("Stopped; what was trained is kept, and the same command goes on.", stderr=True)
        sys.exit(STOPPED)
    finally:
        screen.close()
    if as_json:
        emit(table.to_json())
    elif not quiet:
        show.cells_table(table)


@click.command(cls=ExpressionCommand)
@EXPRESSION
@click.option("--flip", multiple=True, help="Switches, values or knobs, e.g. predictor,momentum,'tau=0.9|0.99'.")
@click.option("--seeds", type=int, default=1, show_default=True, help="Runs of each cell, with seeds 0, 1, ...")
@data_options
@MINUTES
@training_options
@table_options
def ablate(
    expression: tuple[str, ...],
    flip: tuple[str, ...],
    seeds: int,
    quiet: bool,
    as_json: bool,
    **given: Unpack["Given"],
) -> None:
    """Train every combination of the flipped switches of an expression: one table, one picture.

    \b
    sslzoo ablate simsiam --flip predictor,stop_gradient
    sslzoo ablate simclr --flip negatives,predictor,stop_gradient --seeds 3
    sslzoo ablate byol --flip "target=shared|momentum|snapshot" --flip "predictor_lr_scale=1|10"

    A switch is flipped between the expression's value and off, or on where it is off. The same command goes on where
    it was stopped, and adds seeds; finished runs are never run again.
    """
    if not expression:
        raise UserError("Name a method, as in 'sslzoo ablate simsiam --flip predictor'; 'sslzoo methods' lists them.")
    if not flip:
        raise UserError("Name what to flip, as in '--flip predictor,stop_gradient'.")
    from ..studies.ablate import ablate as run

    run_table(lambda screen: run(list(expression), flip, given, seeds, screen), as_json, quiet)


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE]")
@click.option("--seeds", type=int, help="Runs of each variant, with seeds 0, 1, ...")
@data_options
@training_options
@table_options
def study(name: str | None, seeds: int | None, quiet: bool, as_json: bool, **given: Unpack["Given"]) -> None:
    """Run a table of a paper, with the published numbers beside; without a name, list the tables.

    \b
    sslzoo study
    sslzoo study stop_gradient
    sslzoo study predictor --epochs 32 --seeds 3
    sslzoo study mine.toml --data cifar10

    What is not given is as the study's file says. The same command goes on where it was stopped, and adds seeds.
    """
    from ..studies import study as studies

    if name is not None:
        run_table(lambda screen: studies.study(name, given, seeds, screen), as_json, quiet)
    elif as_json:
        emit({"studies": [one.to_json() for one in studies.listed()]})
    else:
        show.studies_table(studies.listed(), studies.SPEED)
