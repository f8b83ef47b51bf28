"""A plan: what a run will do, resolved from expression, data, device and flags before anything is written."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..core import backbones
from ..data import sets
from ..data.splits import Dataset
from ..exchange.opening import open_weights
from ..exchange.pretrained import is_published, weights_of
from ..exchange.weights import Weights
from ..processes.collectives import world
from ..processes.launched import cores, readers
from ..recipes.algebra import Expression, parse
from ..recipes.layers import Circumstances, notes, resolve_here, size_asked
from ..recipes.recipe import Layer, Recipe, switch_values
from ..recipes.rules import misfit
from ..recipes.values import value_of
from ..tools.bounds import LOWEST, check_numbers
from ..tools.errors import UserError
from ..views.features import raw_size
from ..views.given import Augment, own_views
from .machine import find_device, find_precision
from .options import Extension, Options, check_kinds, interval

CPU_VIEW = 64  # px of a view on a CPU, at most, unless asked for more
FEW_CORES = 2  # on which crops are cut between the steps: processes that cut beside them were slower
MOST_MINUTES = 60 * 24 * 30


@dataclass(frozen=True)
class Surroundings:
    """Holds what a run has whatever its recipe: its data as they were found, device and precision.

    ``augment`` makes its views, where a person gave it in Python, and ``initial`` are the weights that it starts from,
    where these are not drawn.
    """

    data: Dataset
    device: torch.device
    precision: str
    augment: Augment | None = None
    initial: Weights | None = None

    def ready(self, size: int, options: Options) -> Dataset:
        """Return the data for views of a size in px. Raises `UserError`, also where too much cannot be read.

        Images have the mean and deviation that initial weights are used to.
        """
        dataset = sets.ready(self.data, size, options.memory)
        dataset.unreadable.check_share(options.max_bad)
        used = None if self.initial is None else self.initial.transform
        if used is None or used.mean is None or used.std is None or len(used.mean) != dataset.channels:
            return dataset
        return replace(dataset, mean=used.mean, std=used.std)

    @property
    def said(self) -> tuple[str, ...]:
        """Say what was made of initial weights, and how images are normalised for them."""
        if self.initial is None:
            return ()
        used, said = self.initial.transform, f": {self.initial.said}" if self.initial.said else ""
        if self.initial.channels != (channels := self.data.channels):
            said += f"; the first convolution's weights for {self.initial.channels} channels become ones for {channels}"
        fits = used.mean is not None and used.std is not None and len(used.mean) == channels
        numbers = [*(used.mean or ()), *(used.std or ())] if fits else []
        norm = f"; mean and std of pixels are theirs ({', '.join(f'{x:.4g}' for x in numbers)})" if numbers else ""
        return (f"initial weights {self.initial.path}{said}{norm}",)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What initial weights ask of a recipe."""
        return () if self.initial is None else (Layer("--init", {"training.backbone": self.initial.backbone}),)


@dataclass(frozen=True)
class Choice:
    """Describes what somebody chose who knows how fast the device is: a view's size in px, and the epochs.

    ``seconds`` are those that the whole run is to take, ``origin`` says what it was chosen for, and ``notes`` why.
    """

    size: int
    epochs: int
    seconds: float
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def layer(self) -> Layer:
        """What a recipe takes of it."""
        return Layer(self.origin, {"training.epochs": self.epochs})


@dataclass(frozen=True)
class Plan:
    """Describes everything that a run needs.

    ``seconds`` are those that it is to take, where somebody measured that; ``augment`` and ``initial`` are its
    surroundings', and ``extended`` is how it goes on beyond its recipe's epochs.
    """

    expression: Expression
    recipe: Recipe
    data: Dataset
    options: Options
    device: torch.device
    precision: str
    seconds: float | None = None
    augment: Augment | None = None
    initial: Weights | None = None
    extended: Sequence[Extension] = ()

    @property
    def epochs(self) -> int:
        """The epochs in all."""
        return self.extended[-1].epochs if self.extended else self.recipe.training.epochs

    @property
    def workers(self) -> int:
        """Return the number of processes that read image files, and cut their crops.

        None of images in memory, where a CPU of few cores has the steps to make as well: a step waits for both.
        """
        if self.options.workers is not None:
            return self.options.workers
        return 0 if self.resident and self.device.type == "cpu" and cores() <= FEW_CORES else readers()

    @property
    def resident(self) -> bool:
        """Return whether the images are in memory."""
        return self.data.train.images.pixels is not None

    @property
    def notes(self) -> list[str]:
        """Return what a person should know of the recipe and the data, and may not have meant so."""
        found, data = notes(self.recipe, len(self.data.train)), self.data
        if data.channels != 3:
            found.append(
                f"Images of {data.channels} channels: saturation, hue and grayscale need RGB and are left out."
            )
        if self.options.baselines and data.labelled and (small := raw_size(data.scored, data.size)) < data.size:
            found.append(f"Raw pixels are compared at {small} px: {data.scored:,} images take too much memory at more.")
        return found

    @property
    def rows(self) -> int:
        """Return the number of images whose projections are seen together."""
        return self.recipe.training.batch_size // self.options.accumulate


def prepare(
    words: str | Sequence[str], options: Options, choice: Choice | None = None, around: Surroundings | None = None
) -> Plan:
    """Resolve an expression for the data and the device. Raises `UserError`; writes nothing.

    Without a ``choice`` no time is measured: the plan follows from what is given alone. ``around`` are the
    surroundings where somebody has them.
    """
    expression, around = parse(words), around or surroundings(options)
    size, origin, why = view_size(options, around, expression)
    if choice is not None:
        size, origin, why = choice.size, origin if choice.size == size else choice.origin, choice.notes
    dataset = around.ready(size, options)
    dataset = replace(dataset, notes=(*dataset.notes, *why, *around.said))
    here = circumstances(dataset, around.device, origin, (*around.layers, *(() if choice is None else (choice.layer,))))
    recipe = resolve_here(expression, here, options.flags_with(around.initial))
    check(recipe, len(dataset.train))
    check_parts(recipe, options.accumulate)
    if around.augment is not None:
        dataset = replace(dataset, notes=(*dataset.notes, own_views(around.augment, recipe)))
    seconds = None if choice is None else choice.seconds
    plan = Plan(expression, recipe, dataset, options, around.device, around.precision, seconds, around.augment)
    return replace(plan, initial=around.initial)


def surroundings(options: Options, augment: Augment | None = None) -> Surroundings:
    """Return what a run has whatever its recipe. Raises `UserError`, for other options too."""
    check_numbers(**{name: getattr(options, name) for name in LOWEST if hasattr(options, name)})
    check_kinds(options)
    if options.eval not in ("val", "test"):
        raise UserError(f"--eval cannot be {options.eval!r}; it is val or test.")
    if not options.out:
        raise UserError("--out cannot be empty; name a folder.")
    if "\0" in options.out:
        raise UserError(f"{options.out} cannot be written (no name has a NUL); give --out another folder.")
    if options.on_nan not in ("stop", "skip"):
        raise UserError(f"--on-nan cannot be {options.on_nan!r}; it is stop or skip.")
    interval(options.checkpoint_every)
    if options.minutes is not None and not 0 < options.minutes <= MOST_MINUTES:
        raise UserError(f"--minutes cannot be {options.minutes:g}; it is above 0, and at most {MOST_MINUTES:,}.")
    sets.check_memory(options.memory)
    device = find_device(options.device)
    precision = find_precision(options.precision, device)
    return Surroundings(sets.find(options), device, precision, augment, initial_weights(options))


def initial_weights(options: Options) -> Weights | None:
    """Return the weights that a run starts from; None where they are drawn. Raises `UserError`."""
    if options.init is None:
        if options.init_network is not None:
            raise UserError("--init-network is of --init; give that too, or leave it out.")
        return None
    if options.init_network not in (None, "online", "target"):
        raise UserError(f"--init-network cannot be {options.init_network!r}; it is online or target.")
    if is_published(options.init):
        return weights_of(options.init)
    return open_weights(Path(os.path.expanduser(options.init)), options.backbone, options.init_network)


def view_size(
    options: Options, around: Surroundings, expression: Expression | None = None
) -> tuple[int, str, tuple[str, ...]]:
    """Return a view's size in px, who decides it, and sentences on why it is not the images' own."""
    if options.image_size is not None:
        return options.image_size, "--image-size", ()
    if expression is not None and (asked := size_asked(expression)) is not None:
        return *asked, ()
    own = around.data.size
    sets.check_size(around.data, own)
    if around.device.type != "cpu" or own <= CPU_VIEW or is_named(around.data):
        return own, "data", ()
    why = (
        f"views have {CPU_VIEW} px: in the same minutes on a CPU, many small views teach more than few large ones "
        f"(--image-size {own} for views of the pictures' size)"
    )
    return CPU_VIEW, "device cpu", (why,)


def is_named(data: Dataset) -> bool:
    """Return whether data are a named set, whose plan is fixed and no matter of time."""
    return data.name in sets.KNOWN and not data.own


def circumstances(
    dataset: Dataset, device: torch.device, size_from: str = "data", more: Sequence[Layer] = ()
) -> Circumstances:
    """Return what a recipe depends on of a data set and a device, and what others ask for besides."""
    return Circumstances(dataset.name, dataset.size, len(dataset.train), device.type, size_from, more, world())


def check(recipe: Recipe, samples: int) -> None:
    """Raise `UserError` for a recipe that cannot train on so many images, or whose backbone is none."""
    backbones.check(backbones.backbone_of(recipe))
    if samples < 2:
        raise UserError("One image is too few to train on; give two or more.")
    if recipe.training.batch_size > samples:
        raise UserError(
            f"A batch of {recipe.training.batch_size} is larger than the {samples} training images; "
            f"use --batch-size {max(2, samples // 2)} or less."
        )
    if (why := misfit(recipe, samples)) is not None:
        raise UserError(why)


def check_parts(recipe: Recipe, accumulate: int) -> None:
    """Raise `UserError` for a batch that cannot be parted: over processes, or into parts whose gradients are added."""
    batch, of = recipe.training.batch_size, world()
    if batch % of:
        raise UserError(
            f"A batch of {batch} cannot be shared by {of} processes; use --batch-size {batch // of * of or of} or "
            f"{(batch // of + 1) * of}, or another number of processes."
        )
    if accumulate == 1:
        return
    for name, word in switch_values(recipe.switches).items():
        if why := value_of(name, word).whole_batch:
            raise UserError(
                f"--accumulate would change this loss, since {why}; use more processes or a smaller --batch-size "
                "instead."
            )
    if batch // of % accumulate or batch // of // accumulate < 2:
        raise UserError(
            f"A batch of {batch // of} cannot be accumulated in {accumulate} parts; give a "
            "divisor that leaves two images or more in each."
        )
