"""What data and devices change of every recipe, and the recipe that an expression has where it is trained."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from .algebra import FLAGS, SIZE, Expression, resolve
from .knobs import defaults as schema_defaults
from .knobs import read_knob
from .recipe import Knobs, Layer, Recipe, check_size
from .rules import misfit
from .schema import SMALL_UP_TO, Value
from .short import fitted

DEFAULTS = Path(__file__).parent / "defaults.toml"
CPU_PASSES = 60_000  # images that pass the net in a run on a CPU, where nobody says how many epochs


@dataclass(frozen=True)
class Circumstances:
    """What a recipe is resolved for: the data's name, a view's size in px, the training images, torch's device type.

    ``size_from`` says who decides the size, and ``more`` are layers of whoever knows more of these than data and
    device do, as how long a run may take. ``processes`` are those that share a batch.
    """

    data: str
    size: int
    samples: int
    device: str
    size_from: str = "data"
    more: Sequence[Layer] = ()
    processes: int = 1

    @property
    def scale(self) -> str:
        """Return "small" for views of at most 64 px, else "large"."""
        return "small" if self.size <= SMALL_UP_TO else "large"


@cache
def _defaults() -> dict[str, Any]:
    return tomllib.loads(DEFAULTS.read_text(encoding="utf-8"))


def asked_by(kind: str, name: str) -> Layer:
    """Return what a data set or a device asks for; ``kind`` is "data" or "device"."""
    return Layer.read(f"{kind} {name}", _defaults()[kind].get(name, {}))


def layer(here: Circumstances) -> Layer:
    """Return what the data ask for or, where they ask for nothing, what the device asks for."""
    data, device = asked_by("data", here.data), asked_by("device", here.device)
    if data.knobs:
        return data
    knobs = dict(device.knobs)
    if "training.batch_size" in knobs:  # a device that is slow: few passes, and steps enough in each
        knobs["training.epochs"] = max(1, round(CPU_PASSES / here.samples))
        batch = max(2, min(int(knobs["training.batch_size"]), here.samples // 4))
        knobs["training.batch_size"] = max(batch - batch % here.processes, here.processes)
    return Layer(device.origin, knobs, device.ranges)


def resolve_here(
    expression: Expression, here: Circumstances, flags: Mapping[str, Value | None] | None = None
) -> Recipe:
    """Return the recipe of an expression in these circumstances, whose size is that of `size_asked` if there is one.

    Raises `UserError`. ``flags`` are dotted knobs that the command line sets; those that are None are not set.
    """
    written = {key: read_knob(key, value) for key, value in (flags or {}).items() if value is not None}
    written |= {SIZE: here.size} if here.size_from == FLAGS[SIZE] else {}  # which an expression does not change
    asked = layer(here)
    rest = [*here.more, Layer(here.size_from, {SIZE: here.size})]
    recipe = resolve(expression, here.scale, [asked, *rest], written)
    if "optimizer.name" in asked.knobs and not asked_by("data", here.data).knobs:
        rest = [*rest, fitted(recipe, here.samples)]
        recipe = resolve(expression, here.scale, [asked, *rest], written)
    if misfit(recipe, here.samples) is not None or queue_too_long(recipe, here.samples):
        asked = replace(asked, knobs={**asked.knobs, **fitting(recipe, here.samples)})
        recipe = resolve(expression, here.scale, [asked, *rest], written)  # the expression still has the last word
    return recipe


def size_asked(expression: Expression) -> tuple[int, str] | None:
    """Return the size of a view in px that an expression or its file asks for, and which of the two; None for none.

    Raises `UserError` for one that is too small.
    """
    source = expression.like or expression.base
    for origin, knobs in (("expression", expression.written), (Path(source.name).stem, source.tables[""])):
        if size := int(knobs.get(SIZE, 0)):
            check_size(size)
            return size, origin
    return None


def fitting(recipe: Recipe, samples: int) -> Knobs:
    """Return the knobs for which few images or a small batch leave too little room, at values that fit."""
    rows = min(recipe.training.batch_size, recipe.normalize.whiten_size)
    fits: Knobs = {}
    if recipe.reads("normalize.whiten_size"):
        fits["heads.dim"] = max(2, min(recipe.heads.dim, rows // 2))
    if recipe.reads("clustering.kmeans_iterations"):
        fits["clustering.prototypes"] = max(2, min(recipe.clustering.prototypes, samples // 4))
    if queue_too_long(recipe, samples):
        fits["memory.queue_length"] = longest_queue(recipe, samples)
    return fits


def longest_queue(recipe: Recipe, samples: int) -> int:
    """Return the longest queue that rarely holds a key of an image that is in the batch itself."""
    return max(1, samples - recipe.training.batch_size)


def queue_too_long(recipe: Recipe, samples: int) -> bool:
    """Return whether a queue reaches back to an epoch ago: what a query is told apart from is itself, or its target."""
    return recipe.reads("memory.queue_length") and recipe.memory.queue_length > longest_queue(recipe, samples)


def notes(recipe: Recipe, samples: int) -> list[str]:
    """Return what a person should know of a recipe that trains on so many images, and may not have meant so."""
    found, training, warmup = [], recipe.training, recipe.optimizer.warmup_epochs
    if warmup >= training.epochs:
        found.append(
            f"The warm-up of {warmup:g} epochs takes the whole run of {training.epochs}, whose learning rate rises to "
            "its end; train longer, or set optimizer.warmup_epochs lower."
        )
    frozen = recipe.optimizer.backbone_freeze_epochs
    if frozen >= training.epochs or not recipe.optimizer.backbone_lr_scale:
        how = f"{frozen:g} frozen epochs of {training.epochs}" if frozen else "optimizer.backbone_lr_scale 0"
        found.append(
            f"The backbone never learns ({how}), though batch norm's statistics in it follow the data; set a larger "
            "scale, or fewer frozen epochs."
        )
    if queue_too_long(recipe, samples):
        found.append(
            f"The queue of {recipe.memory.queue_length:,} holds older keys of the batch's own images, of {samples:,} "
            f"in all; set memory.queue_length to {longest_queue(recipe, samples):,} or less."
        )
    return found


def backbone_for(here: Circumstances) -> str:
    """Return the backbone that a data set on a device gets where no recipe says otherwise."""
    asked = [asked_by("data", here.data).knobs, asked_by("device", here.device).knobs, schema_defaults(here.scale)]
    return next(str(knobs["training.backbone"]) for knobs in asked if "training.backbone" in knobs)
