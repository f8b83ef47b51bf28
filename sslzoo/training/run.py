"""A run from its words, or on from its directory; in one process, or in each of those that torchrun has started."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from ..data.contents.identity import Identity
from ..data.formats import items
from ..data.given.options import DataOptions
from ..data.sets import KNOWN
from ..data.unreadable import MAX_SHARE
from ..processes import agree
from ..recipes.algebra import parse
from ..recipes.layers import Circumstances, resolve_here
from ..recipes.plugins import give_backbone, require
from ..recipes.recipe import Recipe
from ..tools import files
from ..tools.arguments import checked
from ..tools.bounds import check_numbers
from ..tools.errors import UserError
from ..tools.records import write_json
from ..views.given import Augment
from . import checkpoints, runs
from .budget import choice as budget
from .listeners.callbacks import listening
from .listeners.reporter import Reporter, Result
from .loop import Training
from .machine import find_device, restored_generators
from .options import Options
from .plan import Choice, Plan, Surroundings, prepare, surroundings
from .resuming.extension import Beyond, extended
from .resuming.plans import check_augment, plan_of

Data: TypeAlias = TorchDataset[object]
AnyData: TypeAlias = str | Path | Data | Mapping[str, Data]  # a name or a place, a Dataset, or one for each split


@checked
def train(
    expression: str | Sequence[str],
    *,
    data: AnyData | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    labels: str | None = None,
    unlabelled: str | None = None,
    class_depth: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    backbone: str | nn.Module | None = None,
    augment: Augment | None = None,
    callbacks: Sequence[object] = (),
    image_size: int | None = None,
    limit: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    out: str = "runs",
    init: str | None = None,
    init_network: str | None = None,
    knn_every: int | None = None,
    eval: str = "val",
    workers: int | None = None,
    compile: bool = False,
    checkpoint_every: str = "1",
    keep: int = 2,
    on_nan: str = "stop",
    accumulate: int = 1,
    max_bad: float = MAX_SHARE,
    baselines: bool = True,
    memory: str = "auto",
    range: str | None = None,
    channels: int | None = None,
    reporter: Reporter | None = None,
    stop_after: int | None = None,
) -> Result:
    """Train an expression in a new run directory below ``out``, and return what ``sslzoo train --json`` prints.

    The directory is ``result.run``, or ``result["run"]``, as every key of the JSON.

    ``expression`` is one text, as in ``"byol - momentum"``, or its words. What is None is left to the recipe, the data
    or the device. Raises `UserError` before anything is written where it cannot train. Started by torchrun, all
    processes train one run; after a restart they go on with it.

    What is trained: ``data`` is "digits", as without it, "cifar10", "cifar100", "stl10", "fashion-mnist", a folder of
    images, an .npz file or another form, or a torch Dataset of images or of images with labels (or one for each of
    "train", "val" and "test"), each item of which is read once; ``limit`` takes so many images only; ``train`` takes
    its place, as a folder of the training split alone, with ``val`` and ``test`` beside; images of the folder
    ``unlabelled`` are trained on without labels; ``labels`` is a table with the file and the label of each image,
    perhaps with the names of columns behind a colon, or ``class_depth`` is the level of the folders that are classes;
    ``image_size`` is the size of a view in pixels; ``range`` are the values that are black and white in images of more
    than 8 bits, as in "0,4095", and ``channels`` is the number of channels that images are read to, from 1 to 13, by
    default three colours;
    ``backbone`` is a name of timm's, or "small", and starts from the weights of a run, a file or a published model with
    ``init`` (of the copy that follows where ``init_network`` is "target"), which name it too, or it is
    a torch.nn.Module without a classifier, of which a copy is trained, from the weights that it has;
    ``augment`` is called with a batch of images, float32 [N, 3, size, size] in [0, 1] on the device, once for each view
    that it is to make of them, of the same shape, in place of the recipe's augmentations; what it draws from torch's
    generators is drawn again in a run that goes on;
    ``epochs`` and ``batch_size`` (in images, of all processes) are the schedule's, and ``seed`` draws the rest. Without
    ``epochs`` there are as many as fit ``minutes``, from the command to its end: by default 5 on a CPU and 30 on a GPU,
    while "digits" and other named sets have a fixed number of epochs.

    How: ``device`` is "auto", "cpu", "cuda", "cuda:N" or "mps"; ``precision`` is "auto", "float32", "bf16" or "fp16";
    ``workers`` is the number of processes that read image files, and ``memory`` says whether images of files are kept
    in memory, "always", "never" or where they fit ("auto"), neither of which changes what is computed; ``compile``
    tries torch.compile; ``accumulate`` is the number of parts of a batch whose gradients are added up, of which batch
    norm sees each alone; ``on_nan`` says whether a step that is not finite is to "stop" the run or to be left out
    ("skip"); ``max_bad`` is the share of the images that may be unreadable.

    What is kept and said: ``knn_every`` is the number of epochs from one kNN to the next, on a part of the training
    images, or on the test split where ``eval`` is "test" and not "val"; without ``baselines`` raw pixels and the
    untrained backbone are not measured beside it; ``checkpoint_every`` is a number of epochs, or
    minutes as in "10m", and ``keep`` the number of checkpoints that stay; ``reporter`` hears of the run as it goes, and
    ``callbacks`` do, which are objects with any method of `Callback`; ``stop_after`` ends the run after that epoch, on
    the same schedule.
    """
    hearing = listening(reporter, callbacks)
    backbone = give_backbone(backbone) if isinstance(backbone, nn.Module) else backbone
    asked = Options(
        data=items.name_of(data), train=_text(train), val=_text(val), test=_text(test), labels=_text(labels),
        unlabelled=_text(unlabelled), class_depth=class_depth,
        epochs=epochs, minutes=minutes, batch_size=batch_size, backbone=backbone,
        image_size=image_size, limit=limit, device=device, precision=precision, seed=seed, out=_text(out),
        init=_text(init), init_network=init_network, knn_every=knn_every, eval=eval,
        workers=workers, compile=compile, checkpoint_every=checkpoint_every, keep=keep, on_nan=on_nan,
        accumulate=accumulate, max_bad=max_bad, baselines=baselines, memory=memory, range=range, channels=channels,
    )  # fmt: skip
    with restored_generators(), agree.process_group():
        if (launch := agree.launch_ids()) and (begun := agree.on_first(lambda: _begun(expression, asked, launch))):
            return _resumed(begun, hearing, stop_after, augment=augment)
        plan = planned(expression, asked, augment)
        return Training(plan).run(hearing, stop_after)


def planned(expression: str | Sequence[str], asked: Options, augment: Augment | None = None) -> Plan:
    """Return the plan of a run, whose epochs fit its minutes where nobody says how many; the same in all processes.

    The first process measures how fast it is, and tells the others what it chose. Raises `UserError`.
    """
    found: list[Surroundings] = []

    def choose() -> Choice | None:
        found.append(surroundings(asked, augment))
        return budget.choose(expression, asked, found[0])

    choice = agree.on_first(choose)
    return alike(lambda: prepare(expression, asked, choice, found[0] if found else surroundings(asked, augment)))


def recipe_for_data(words: Sequence[str], options: Options) -> tuple[Recipe, torch.device]:
    """Return the recipe of an expression and its device, on data that need not be at hand where they have a name.

    Raises `UserError`.
    """
    device = find_device(options.device)
    if options.place in KNOWN and not options.asked:
        return resolve_here(parse(words), Circumstances(options.place, *KNOWN[options.place], device.type)), device
    return planned(words, options).recipe, device


def _text(name: Any) -> Any:
    """Return a name as text where a path was given; what is neither stays, and is refused with the other options."""
    return os.fsdecode(name) if isinstance(name, os.PathLike) else name


def _begun(expression: str | Sequence[str], asked: Options, launch: list[str]) -> Path | None:
    """Return the run of these words that this launch of torchrun has begun already."""
    return runs.of_launch(Path(asked.out), launch, parse(expression).text, asked.resolved())


def alike(make: Callable[[], Plan]) -> Plan:
    """Make a plan in all processes. Raises `UserError` where they have different data."""
    plan = agree.on_all(make)
    own = Identity.of(plan.data)
    first, colours = agree.broadcast((own, (plan.data.mean, plan.data.std)))

    def same() -> None:
        why = first.difference(own)
        if why is None and not np.allclose(colours, (plan.data.mean, plan.data.std), atol=1e-4):
            why = "its images have other content"
        if why is not None:
            raise UserError(f"It has not the first process's data: {why}; give all machines the same data.")

    agree.on_all(same)
    return replace(plan, data=replace(plan.data, mean=colours[0], std=colours[1]))


@checked
def resume(
    run: str | Path,
    reporter: Reporter | None = None,
    stop_after: int | None = None,
    *,
    data: AnyData | None = None,
    train: str | None = None,
    val: str | None = None,
    test: str | None = None,
    labels: str | None = None,
    unlabelled: str | None = None,
    max_bad: float | None = None,
    augment: Augment | None = None,
    callbacks: Sequence[object] = (),
    epochs: int | None = None,
    schedule: str = "cosine",
    rate: float | None = None,
) -> Result:
    """Go on with ``run``, from its last checkpoint, or from one of its files, as if it had never stopped.

    ``reporter``, ``callbacks`` and ``stop_after`` are those of `train`; ``data``, ``train``, ``val``, ``test``,
    ``labels`` and ``unlabelled`` are where its data lie now, if they were moved, and ``max_bad`` the share of the
    images that may be unreadable from now on. ``augment`` has to be given again where the run began with one. A run
    that has ended goes on to ``epochs`` in all, on a new "cosine" or a "constant" ``schedule``, from ``rate`` of its
    learning rate, by default that of its last step. Raises `UserError`, also where the data are no longer the same.
    """
    hearing = listening(reporter, callbacks)
    changed: dict[str, Any] = {} if max_bad is None else {"max_bad": max_bad}
    data = items.name_of(data)
    places = {"data": data, "train": train, "val": val, "test": test, "labels": labels, "unlabelled": unlabelled}
    moved = DataOptions(**{name: _text(place) for name, place in places.items()}).resolved()
    changed |= {name: getattr(moved, name) for name, place in places.items() if place is not None}
    with restored_generators(), agree.process_group():
        beyond = None if epochs is None else Beyond(epochs, schedule, rate)
        return _resumed(Path(run), hearing, stop_after, changed, augment, beyond)


def _resumed(
    given: Path,
    reporter: Reporter,
    stop_after: int | None,
    changed: Mapping[str, Any] | None = None,
    augment: Augment | None = None,
    beyond: Beyond | None = None,
) -> Result:
    check_numbers(stop_after=stop_after)
    path, file = checkpoints.locate(given)
    with agree.run_lock(path):
        about, checkpoint = agree.on_all(lambda: (runs.read_run(path), checkpoints.read(given)))
        about = replace(about, options=replace(about.options, **(changed or {})))
        kept = about
        if beyond is not None:
            about = extended(path, about, (checkpoint.epoch, checkpoint.position), beyond)
        if stop_after is not None and checkpoint.epoch >= stop_after:
            raise UserError(
                f"{path} has trained {checkpoint.epoch} epochs, and --stop-after {stop_after} leaves none to train; "
                "give a later one, or leave it out."
            )
        agree.on_all(lambda: require(about.plugins, path))
        check_augment(path, about.augment, augment)
        plan = alike(lambda: plan_of(path, about, augment))
        training = Training(plan, path, checkpoint)
        agree.on_first(lambda: checkpoints.go_back(file))
        if changed or about is not kept:
            agree.on_first(lambda: write_json(path / "run.json", about))
        agree.on_first(lambda: files.tidy(path))
        return training.run(reporter, stop_after)
