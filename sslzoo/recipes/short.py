"""What short runs have otherwise: knobs whose published values are for a hundred times as many steps."""

from .recipe import Layer, Recipe
from .schema import Value

SHORT = 10_000  # steps: of fewer, a predictor has no time to follow what it predicts from at the others' rate
PREDICTOR = 10.0  # times the others' rate: BYOL, table 21, where a fast predictor alone prevents the collapse
PREDICTED = (100, 30)  # parts of a run's steps that a target remembers, at its start and at its end: tuned on digits
COMPARED = (10, 3)  # likewise of one that is compared without a predictor: ten times slower, or its rows run away


def fitted(recipe: Recipe, samples: int) -> Layer:
    """Return the knobs of a recipe, on so many images, that its number of steps asks for; none for a long run.

    A target that is predicted remembers no more than a hundredth of the run's steps, and a thirtieth at its end; one
    that is compared as it is, ten times that. A learnt predictor learns faster than what it predicts from.
    """
    steps = recipe.training.epochs * max(1, samples // recipe.training.batch_size)
    knobs: dict[str, Value] = {}
    if recipe.reads("target.tau"):
        parts = COMPARED if recipe.switches.predictor == "none" else PREDICTED
        for knob, own, part in zip(("tau", "tau_end"), (recipe.target.tau, recipe.target.tau_end), parts, strict=True):
            knobs[f"target.{knob}"] = min(own, max(0.0, round(1 - part / steps, 4)))
    if recipe.reads("optimizer.predictor_lr_scale") and steps < SHORT:
        knobs["optimizer.predictor_lr_scale"] = PREDICTOR
    now = recipe.values()
    return Layer(f"{steps:,} steps", {key: value for key, value in knobs.items() if value != now[key]})
