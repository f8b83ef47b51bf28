"""The plan of a run that has begun: its own recipe and options, on the data as they are now."""

import os
from dataclasses import replace
from pathlib import Path

from ...processes import collectives
from ...recipes.recipe import read_method
from ...tools.errors import UserError
from ...views.given import Augment, name_of
from .. import contents, runs
from ..machine import other_versions
from ..plan import Plan, prepare, surroundings


def check_augment(path: Path, kept: str | None, given: Augment | None) -> None:
    """Raise `UserError` for a run that goes on with views of another kind than those that it began with."""
    own = None if given is None else name_of(given)
    if own == kept:
        return
    if kept is None:
        raise UserError(f"The views of {path} are its recipe's, and not those of {own}; leave augment= out.")
    raise UserError(
        f"The views of {path} are made by {kept}, which was given in Python; go on there, with "
        f"sslzoo.resume({str(path)!r}, augment=...)."
    )


def plan_of(path: Path, about: runs.RunAbout, augment: Augment | None) -> Plan:
    """Return the plan of a run that has begun. Raises `UserError` where its data are gone, or others."""
    kept = about.precision if about.precision in ("float32", "bf16") else about.options.precision
    initial = str(path / runs.INITIAL) if os.path.isfile(path / runs.INITIAL) else None
    options = replace(
        about.options, init=initial, init_network=None, precision=kept, image_size=about.image_size
    )  # whatever it is here
    if collectives.world() > 1 and options.device.startswith("cuda"):
        options = replace(options, device="cuda")  # each process has its own
    if (gone := options.missing()) is not None:
        what = "data" if gone == "data" else f"data (--{gone})"
        raise UserError(
            f"The {what} of {path} are no longer at {getattr(options, gone)}; say with --{gone} where they are."
        )
    if not os.path.isfile(path / "recipe.toml"):
        raise UserError(f"{path} has lost its recipe.toml, and nothing else says what it trains; start a new run.")
    method = read_method(path / "recipe.toml")
    plan = prepare([str(path / "recipe.toml")], options, around=surroundings(options, augment))
    recipe = replace(plan.recipe, expression=about.expression, method=about.method)
    if (why := contents.difference(path, about.identity, plan.data)) is not None:
        raise UserError(f"The data of {path} have changed: {why}; bring them back, or start a new run.")
    if recipe.switches != method.switches or len(plan.data.train) != about.images:
        raise UserError(f"The data of {path} have changed; bring back {about.images} images, or start a new run.")
    if about.identity is None and plan.data.train.images.paths:
        raise UserError(f"{path} is of an older version, which cut views out of files otherwise; start a new run.")
    others = other_versions(about.versions)
    notes = (f"this run began with {others}",) if others else ()
    beyond = tuple(one.words for one in about.extended or ())
    data = replace(plan.data, notes=(*plan.data.notes, *notes, *beyond))
    return replace(
        plan,
        recipe=recipe,
        expression=replace(plan.expression, text=about.expression),
        data=data,
        extended=about.extended or (),
    )
