"""A plan: what a run will do, resolved from expression, data, device and flags before anything is written."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from . import data, encoders
from .algebra import Expression, misfit, parse, resolve
from .bad import MOST
from .distributed import world
from .errors import UserError, listing
from .launched import local
from .recipe import PACKAGE, Recipe, switch_values
from .schema import SMALL_UP_TO, Value
from .splits import Dataset
from .values import defaults as schema_defaults
from .values import expand, read_knob

CPU_PASSES = 60_000  # images that pass the net in a run on a CPU, where nobody says how many epochs
LOWEST = {
    "image_size": data.SMALLEST, "limit": 2, "epochs": 1, "batch_size": 2, "seed": 0, "workers": 0, "knn_every": 1,
    "stop_after": 1, "keep": 1, "accumulate": 1,
}  # fmt: skip
HIGHEST = {  # `batches.order` multiplies the seed, and the product has to fit a generator
    "image_size": 4096, "workers": 1024, "seed": 2**32 - 1,
}  # fmt: skip
PRECISIONS = ("auto", "float32", "bf16")


@dataclass(frozen=True)
class Options:
    """What belongs to one run and not to the method; None leaves it to the recipe, the data or the device."""

    data: str = "digits"
    epochs: int | None = None
    batch_size: int | None = None
    backbone: str | None = None
    image_size: int | None = None
    limit: int | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    out: str = "runs"
    init: str | None = None
    knn_every: int | None = None
    eval: str = "val"
    workers: int | None = None
    compile: bool = False
    checkpoint_every: str = "1"
    keep: int = 2
    on_nan: str = "stop"
    accumulate: int = 1
    max_bad: float = MOST


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs."""

    expression: Expression
    recipe: Recipe
    data: Dataset
    options: Options
    device: torch.device
    precision: str

    @property
    def workers(self) -> int:
        """Processes that read image files."""
        return 2 if self.options.workers is None else self.options.workers

    @property
    def resident(self) -> bool:
        """Whether the images are in memory."""
        return isinstance(self.data.train.images, torch.Tensor)

    @property
    def rows(self) -> int:
        """Images whose projections are seen together."""
        return self.recipe.training.batch_size // self.options.accumulate


@cache
def _defaults() -> dict[str, Any]:
    return tomllib.loads((PACKAGE / "defaults.toml").read_text(encoding="utf-8"))


def defaults(kind: str, name: str) -> tuple[dict[str, Value], dict[str, tuple[Value, Value]]]:
    """The knobs and the ranges of knobs that a data set or a device asks for."""
    knobs: dict[str, Value] = {}
    ranges: dict[str, tuple[Value, Value]] = {}
    for table, content in _defaults()[kind].get(name, {}).items():
        for key, value in content.items():
            for one in expand(f"{table}.{key}"):
                if isinstance(value, list):
                    ranges[one] = (read_knob(one, value[0]), read_knob(one, value[1]))
                else:
                    knobs[one] = read_knob(one, value)
    return knobs, ranges


def prepare(words: str | Sequence[str], options: Options, resident: bool | None = None) -> Plan:
    """Resolve an expression for the data, in memory or not, and the device. Raises `UserError`; writes nothing."""
    expression = parse(words)
    dataset, device, precision = surroundings(options, resident)
    recipe = recipe_for(expression, options, dataset.name, dataset.size, len(dataset.train), device)
    check(recipe, len(dataset.train))
    check_parts(recipe, options.accumulate)
    return Plan(expression, recipe, dataset, options, device, precision)


def check_numbers(**options: int | None) -> None:
    """Raise `UserError` for a number among the options that is out of bounds."""
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if type(value) is not int:
            raise UserError(f"{flag} cannot be {value!r}; it is a whole number.")
        if value < LOWEST[name]:
            raise UserError(f"{flag} cannot be {value}; it is at least {LOWEST[name]}.")
        if name in HIGHEST and value > HIGHEST[name]:
            raise UserError(f"{flag} cannot be {value}; it is at most {HIGHEST[name]}.")


def surroundings(options: Options, resident: bool | None = None) -> tuple[Dataset, torch.device, str]:
    """Data, device and precision of a run, whatever its recipe. Raises `UserError`, for other options too."""
    if options.eval not in ("val", "test"):
        raise UserError(f"--eval cannot be {options.eval!r}; it is val or test.")
    if not options.out:
        raise UserError("--out cannot be empty; name a folder.")
    if "\0" in options.out:
        raise UserError(f"{options.out} cannot be written (no name has a NUL); give --out another folder.")
    check_numbers(**{name: getattr(options, name) for name in LOWEST if hasattr(options, name)})
    if options.on_nan not in ("stop", "skip"):
        raise UserError(f"--on-nan cannot be {options.on_nan!r}; it is stop or skip.")
    interval(options.checkpoint_every)
    if not 0 <= options.max_bad <= 1:
        raise UserError(f"--max-bad cannot be {options.max_bad:g}; it is a share of the images, from 0 to 1.")
    device = find_device(options.device)
    precision = find_precision(options.precision, device)
    dataset = data.load(options.data, options.image_size, options.limit, resident)
    dataset.bad.check(options.max_bad)
    return dataset, device, precision


def check(recipe: Recipe, samples: int) -> None:
    """Raise `UserError` for a recipe that cannot train on so many images, or whose backbone is none."""
    encoders.check(recipe.training.backbone)
    if recipe.training.batch_size > samples:
        raise UserError(
            f"A batch of {recipe.training.batch_size} is larger than the {samples} training images; "
            f"use --batch-size {max(2, samples // 2)} or less."
        )
    if (why := misfit(recipe, samples)) is not None:
        raise UserError(why)


WHOLE_BATCH = {  # values of switches whose loss is no mean over rows that know nothing of each other, and why
    "batch": "its negatives are the batch's other rows", "sinkhorn": "Sinkhorn balances the codes of a whole batch",
    "standardize": "the mean and deviation are a whole batch's", "whiten": "the covariance is a whole batch's",
    "correlation": "the correlation is a whole batch's", "decorrelation": "the correlation is a whole batch's",
    "variance": "the variance is a whole batch's", "gaussian": "the distribution is a whole batch's",
}  # fmt: skip


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
    for value in switch_values(recipe.switches).values():
        if value in WHOLE_BATCH:
            raise UserError(
                f"--accumulate would change this loss, since {WHOLE_BATCH[value]}; use more processes or a smaller "
                "--batch-size instead."
            )
    if batch // of % accumulate or batch // of // accumulate < 2:
        raise UserError(
            f"A batch of {batch // of} cannot be accumulated in {accumulate} parts; give a "
            "divisor that leaves two images or more in each."
        )


def interval(text: str) -> tuple[int, float | None]:
    """What --checkpoint-every says: so many epochs, or so many seconds. Raises `UserError`."""
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?) ?m(?:in(?:utes?)?)?", text.strip())
    epochs, minutes = (int(found[1] or 0), float(found[2] or 0)) if found else (0, 0.0)
    if not (epochs or minutes):
        raise UserError(f"--checkpoint-every cannot be {text!r}; it is a number of epochs, or minutes as in 10m.")
    return epochs, minutes * 60 or None


def recipe_for(
    expression: Expression, options: Options, name: str, size: int, samples: int, device: torch.device
) -> Recipe:
    """The recipe of an expression for a data set of this name, size in px and number of training images."""
    data_knobs, ranges = defaults("data", name)
    device_knobs, device_ranges = ({}, {}) if data_knobs else defaults("device", device.type)
    scale = "small" if size <= SMALL_UP_TO else "large"
    flags = {f"training.{k}": getattr(options, k) for k in ("epochs", "batch_size", "backbone")}
    flags = {key: read_knob(key, value) for key, value in flags.items() if value is not None}
    if "training.batch_size" in device_knobs:  # a device that is slow: few passes, and steps enough in each
        device_knobs["training.epochs"] = max(1, round(CPU_PASSES / samples))
        device_knobs["training.batch_size"] = max(2, min(int(device_knobs["training.batch_size"]), samples // 4))
    recipe = resolve(expression, scale, name, data_knobs, ranges, device.type, device_knobs, device_ranges, flags)
    if misfit(recipe, samples) is not None:
        (data_knobs or device_knobs).update(fitting(recipe, samples))  # the expression still has the last word
        recipe = resolve(expression, scale, name, data_knobs, ranges, device.type, device_knobs, device_ranges, flags)
    return recipe


def fitting(recipe: Recipe, samples: int) -> dict[str, Value]:
    """The knobs for which few images or a small batch leave too little room, at values that fit."""
    rows = min(recipe.training.batch_size, recipe.normalize.whiten_size)
    fits: dict[str, Value] = {}
    if recipe.switches.normalize == "whiten":
        fits["heads.dim"] = max(2, min(recipe.heads.dim, rows // 2))
    if recipe.switches.clustering == "kmeans":
        fits["clustering.prototypes"] = max(2, min(recipe.clustering.prototypes, samples // 4))
    return fits


def recipe_for_data(expression: Expression, options: Options, device: torch.device) -> Recipe:
    """The recipe of an expression for data that need not be at hand where its size is known."""
    if options.data in data.KNOWN:
        return recipe_for(expression, options, options.data, *data.KNOWN[options.data], device)
    dataset = data.load(options.data)
    return recipe_for(expression, options, dataset.name, dataset.size, len(dataset.train), device)


def find_device(name: str) -> torch.device:
    """The device: for "auto" cuda, mps or cpu, whichever is there first. Raises `UserError` for one that is not."""
    name = str(name)  # a run's own may be anything
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there["mps"] &= world() == 1  # its tensors cannot be sent to other processes
    if name == "auto":
        name = next(kind for kind, ready in there.items() if ready)
    if name == "cuda" and world() > 1:
        if local() >= torch.cuda.device_count():
            raise UserError(
                f"There are {torch.cuda.device_count()} GPUs; start no more processes on a machine than that."
            )
        name = f"cuda:{local()}"
        torch.cuda.set_device(name)
    elif world() > 1 and name.startswith("cuda:"):
        raise UserError(f"Each process takes a GPU of its own; leave --device {name} out.")
    kind = name.split(":")[0]
    if kind not in there:
        raise UserError(f"--device cannot be {name!r}; it is auto, {listing(there)}.")
    number = name.removeprefix(kind).removeprefix(":")
    if not there[kind] or (
        number
        and not (re.fullmatch("[0-9]{1,2}", number) and (kind != "cuda" or int(number) < torch.cuda.device_count()))
    ):
        raise UserError(
            f"There is no {name} on this machine; use --device {listing(k for k, ready in there.items() if ready)}."
        )
    return torch.device(name)


def find_precision(name: str, device: torch.device) -> str:
    """ "bf16" or "float32"; for "auto" bf16 on a GPU that has it."""
    if name not in PRECISIONS:
        raise UserError(f"--precision cannot be {name!r}; it is {listing(PRECISIONS)}.")
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return name


def backbone_for(dataset: Dataset, device: torch.device) -> str:
    """The backbone that a data set on a device gets where no recipe says otherwise."""
    scale = "small" if dataset.size <= SMALL_UP_TO else "large"
    layers = [defaults("data", dataset.name)[0], defaults("device", device.type)[0], schema_defaults(scale)]
    return next(str(layer["training.backbone"]) for layer in layers if "training.backbone" in layer)
