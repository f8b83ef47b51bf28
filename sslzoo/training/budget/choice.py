"""What a run does in so many minutes: the largest view size that leaves time for epochs enough, and as many of them."""

from collections.abc import Sequence
from dataclasses import replace

from ...recipes.algebra import Expression, parse
from ...recipes.layers import resolve_here
from ...recipes.schema import SMALL_UP_TO
from ...tools.errors import UserError
from ..guards import SMALLER_MODEL, enough_memory
from ..options import Options
from ..plan import Choice, Surroundings, check, check_parts, circumstances, is_named, view_size
from .costs import Costs
from .kept import place, steady
from .timing import measure

USUAL_MINUTES = {"cpu": 5.0}  # of a run, by the device's kind
MINUTES = 30.0  # on others
LADDER = (  # epochs that a run may have: coarse, so that a machine makes one plan
    1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1000,
)  # fmt: skip
BELOW = {"small": (48, 32), "large": (192, 160, 128, 96)}  # px that are tried below the first choice, by scale
SECONDS = 120  # below which a time is said in seconds
ENOUGH = 10  # epochs; where there is time for fewer, smaller views are tried


def choose(words: str | Sequence[str], options: Options, around: Surroundings) -> Choice | None:
    """Return the view size and the epochs that an expression has in its minutes; None where others say how many.

    The largest size counts that leaves time for epochs enough. Speed decides nothing else. Raises `UserError`.
    """
    expression = parse(words)
    minutes = wanted(expression, options, around)
    if minutes is None:
        return None
    first, origin, why = view_size(options, around, expression)
    below = BELOW["small" if first <= SMALL_UP_TO else "large"] if origin in ("data", "device cpu") else ()
    for size in (first, *(one for one in below if one < first)):
        at = circumstances(replace(around.data, size=size), around.device, more=around.layers)
        recipe = resolve_here(expression, at, options.flags_with(around.initial))
        check(recipe, len(around.data.train))
        check_parts(recipe, options.accumulate)
        with enough_memory(f"a {recipe.training.backbone} and its optimiser", SMALLER_MODEL):
            now = measure(expression, recipe, options, around, size)
        known = steady(now, place(recipe, options, around, size))
        here, usual = (
            Costs(one, recipe, around.data, size, options.baselines, options.knn_every) for one in (now, known)
        )
        epochs = max((n for n in LADDER if usual.seconds(n) <= 60 * minutes), default=1)
        if epochs >= ENOUGH:
            break
    if size < first:
        why = (f"views have {size} px: larger ones leave no time for {ENOUGH} epochs (--image-size, --minutes)",)
    seconds = here.seconds(epochs)
    return Choice(
        size, epochs, seconds, f"{minutes:g} minute{'s' * (minutes != 1)}", (*why, *limits(usual, epochs, minutes))
    )


def limits(costs: Costs, epochs: int, minutes: float) -> list[str]:
    """Return sentences on what does not fit into the minutes, or does not need them."""
    if (one := costs.seconds(1)) > 60 * minutes:
        about = f"{one:.0f} seconds" if one < SECONDS else f"{one / 60:.0f}"
        said = f"one epoch takes longer than {minutes:g} minutes (about {about})"
        return [f"{said}: --limit N trains on fewer images, --minutes {one // 60 + 1:.0f} allows it"]
    if epochs == LADDER[-1]:
        return [f"{epochs:,} epochs are the most without --epochs, and take less than {minutes:g} minutes"]
    return []


def wanted(expression: Expression, options: Options, around: Surroundings) -> float | None:
    """Return the minutes that a run may take; None where its epochs are said, or its data have a fixed plan.

    Raises `UserError` where both are said.
    """
    source = expression.like or expression.base
    given = {} if options.epochs is None else {"training.epochs": options.epochs}
    places = (("--epochs", given), ("the expression", expression.written), (source.name, source.tables[""]))
    said = next((who for who, knobs in places if "training.epochs" in knobs), None)
    if options.minutes is None:
        fixed = said is not None or is_named(around.data)
        return None if fixed else USUAL_MINUTES.get(around.device.type, MINUTES)
    if said is not None:
        raise UserError(f"--minutes would decide how many epochs there are, and {said} does; leave one of the two out.")
    return options.minutes
