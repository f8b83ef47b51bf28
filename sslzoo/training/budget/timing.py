"""How fast a plan trains here: a few steps on a few of its own images, and what else a run takes time for."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import torch

from ...data import sets
from ...data.folders import ALWAYS, NEVER, placed, sized
from ...processes import collectives
from ...recipes.algebra import Expression
from ...recipes.recipe import Recipe
from ...tools.progress import Work
from ...tools.records import Record
from ...views.batches import Batches
from ...views.features import CPU, Preprocessing, features
from ..learner import Learner
from ..machine import evaluation_autocast, fast_products, restored_generators
from ..options import Options
from ..plan import Plan, Surroundings

READ = 256  # images, at least a batch, that are read to be trained on
WARM, STEPS, PATIENCE = 3, 16, 4.0  # steps before those that are timed, of these at most, and seconds for them
SIDE = 1024  # of the matrices whose product is timed
T = TypeVar("T")


@dataclass(frozen=True)
class Speed(Record):
    """Describes how many seconds parts of a run take here.

    ``an_image`` is read at the start, ``a_step`` made with its batch, ``features`` made of an image, of which there are
    ``width``, ``a_checkpoint`` is written, and ``a_billion`` are the multiplications of kNN. With ``--compile``,
    ``compiling`` takes so long before the first step.
    """

    an_image: float
    a_step: float
    features: float
    a_checkpoint: float
    a_billion: float
    width: int
    compiling: float = 0.0


def measure(expression: Expression, recipe: Recipe, options: Options, around: Surroundings, size: int) -> Speed:
    """Return how fast the recipe of an expression trains here with views of a size in px; nothing of it stays.

    Raises `UserError`. Of many processes one measures its own part of a batch, and none of what they send each other.
    """
    data = around.data
    rows = max(recipe.training.batch_size // collectives.world(), 2)  # batch norm alone needs two
    recipe = replace(recipe, training=replace(recipe.training, batch_size=rows))
    kept = not data.train.images.paths or placed(sized(data, size), options.memory)[0]
    with collectives.alone(), restored_generators():
        some = sets.few(data, max(READ, rows))
        some, seconds = timed(lambda: sets.ready(some, size, ALWAYS if kept else NEVER), around.device)
        some.unreadable.check_share(options.max_bad)
        n = len(some.train)
        enough = torch.arange(rows * (WARM + STEPS)) % n  # the same images again and again
        some = replace(some, train=some.train.take(enough))
        plan = Plan(expression, recipe, some, options, around.device, around.precision, augment=around.augment)
        batches = Batches(plan.data, recipe, around.device, options.seed, plan.workers, augment=around.augment)
        learner = Learner(plan, batches)
        learner.model.train()
        with fast_products(around.device, around.precision):
            compiling = timed(learner.compile, around.device)[1] if options.compile else 0.0
            step = step_seconds(learner, batches)
            how = (Preprocessing(size, some.mean, some.std), around.device, plan.workers, None)
            precision = evaluation_autocast(around.device, around.precision)
            found, embed = timed(lambda: features(learner.encoder, some.bank, *how, precision), around.device)
        _, save = timed(lambda: torch.save(vars(learner.state()), io.BytesIO()), around.device)
        square = torch.rand(SIDE, SIDE)
        _, product = timed(lambda: square @ square, CPU)
    read = seconds / (n + min(n, READ)) if kept else 0.0  # some are read twice: to find mean and deviation
    return Speed(read, step, embed / n, 2 * save, product / SIDE**3 * 1e9, found.shape[1], compiling)


def step_seconds(learner: Learner, batches: Batches) -> float:
    """Return the seconds of a step with its batch, over some steps."""
    ends: list[float] = []
    work = Work("steps timed", WARM + STEPS)
    for number, (index, views) in enumerate(islice(batches.epoch(0), WARM + STEPS)):
        learner.step(views, index, number)
        learner.diverged(wait=True)  # waits for the device
        ends.append(time.perf_counter())
        work.add(1)
        if number > WARM + 1 and ends[-1] - ends[WARM - 1] > PATIENCE:
            break
    work.end()
    return (ends[-1] - ends[WARM - 1]) / (len(ends) - WARM)


def timed(make: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """Return what is made, and how many seconds that took."""
    began = time.perf_counter()
    made = make()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return made, time.perf_counter() - began
