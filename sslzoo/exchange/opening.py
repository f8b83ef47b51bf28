"""Weights from a file of any known layout, a folder of shards or a run: by the shapes of their keys, or by a name."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import nn

from ..core.backbones import STEM, Backbone, build
from ..recipes.schema import SMALL_UP_TO
from ..tools.errors import UserError, listing
from . import files
from .networks import SHOWN, below, by_names, choose, fit, networks, nothing, told
from .transform import Transform
from .weights import ENCODER, Weights, counters, metadata, misfit

CHECKPOINT = "last.pt"  # of a run
SIZES = (8, 4096)  # px of a view that a file may ask for


def open_weights(path: Path, backbone: str | None = None, network: str | None = None) -> Weights:
    """Return the weights of a network in a file, in a folder of shards, or of a run. Raises `UserError`.

    The backbone is told from the shapes of the weights, unless ``backbone`` names one; ``network`` is that of `choose`.
    """
    path = file_of(path, network)
    contents, own = files.read(path), metadata(path) or metadata(path.parent / ENCODER)
    named = backbone or _text(own.get("backbone"))
    if backbone is not None and (whole := _of_another(contents, own, backbone, network)) is not None:
        made = whole
    elif networks(contents):
        chosen, others = choose(contents, network)
        shaped = fit(contents, chosen, named)
        name = with_stem(named, shaped.backbone) if named else shaped.backbone
        how = transform_of(contents, own, shaped.size)
        said = told(contents, chosen, replace(shaped, backbone=name), others)
        made = Weights(path, shaped.state, name, how, said, shaped.backbone)
    else:
        named = named or _architecture(contents)
        if named is None:
            raise UserError(nothing(contents))
        found = _by_name(contents, own, named, network)
        assert found is not None
        made = found
    check_numbers(made)
    if made.channels != 3 and made.transform.guessed:  # whose mean ImageNet does not tell
        made = replace(made, transform=replace(made.transform, mean=None, std=None))
    return made


def transform_of(contents: files.Contents, own: Mapping[str, Any], size: int) -> Transform:
    """Return what is done to the images of a file's network: as the file says, or what is usual for a size in px."""
    px, mean, std = own.get("image_size"), _numbers(own.get("mean")), _numbers(own.get("std"))
    if type(px) is int and SIZES[0] <= px <= SIZES[1] and mean and std and min(std) > 0:
        return Transform(px, px, mean=mean, std=std)
    with suppress(TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError):  # a config of other words
        if (told := contents.config.get("pretrained_cfg")) is not None:
            return Transform.of_timm(told)
        if (processed := Transform.of_processor(contents.processor)) is not None:
            return processed
    return Transform.usual(size, size > SMALL_UP_TO)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a backbone's weights from a file of a known layout, or from a run directory. Raises `UserError`."""
    path = file_of(path)
    contents, own = files.read(path), model.state_dict()
    prefix = by_names(contents, own)
    if prefix is not None and all(prefix + name in contents.tensors for name in own):
        state = {name: value for name, value in below(contents, prefix).items() if name in own or name == STEM}
        made = Weights(path, state, "the one of its shapes", Transform.usual(0, large=False))
        check_numbers(made)
        made.fill(model)
    elif networks(contents):
        open_weights(path).fill(model)
    else:
        why = nothing(contents).partition(f"{path} ")[2].partition(";")[0]
        raise UserError(f"{path} does not fit the backbone ({why}); give the --backbone that it was trained with.")


def file_of(path: Path, network: str | None = None) -> Path:
    """Return the file of weights that a path means: of a run its encoder, or its checkpoint, which has all networks."""
    if not os.path.isdir(path) or files.is_weights_file(path):
        return path
    whole = path / CHECKPOINT
    wanted = network == "target" or not os.path.isfile(path / ENCODER)
    return whole if wanted and os.path.isfile(whole) else path / ENCODER


def with_stem(backbone: str, shaped: str) -> str:
    """Return a backbone that a person names, with the stem that the weights' shapes tell."""
    asked, told = Backbone.parse(backbone), Backbone.parse(shaped)
    if asked.stem is not None or told.stem is None or not timm.is_model(asked.name):
        return backbone
    return str(Backbone(asked.name, asked.args, told.stem, asked.norm_eps))


def check_numbers(weights: Weights) -> None:
    """Raise `UserError` for weights that are whole numbers, or not finite; a buffer may be infinite, as a mask is."""
    for name, value in weights.state.items():
        learnt = name.endswith(("weight", "bias", "token", "embed", "gamma")) or ".running_" in name
        if learnt and not value.is_floating_point():
            raise UserError(f"{weights.path} has weights of {value.dtype}, first {name}; give them as real numbers.")
        if learnt and not bool(value.isfinite().all()):
            raise UserError(f"{weights.path} has weights that are not finite, first {name}; give others.")


def _architecture(contents: files.Contents) -> str | None:
    """Return timm's name of the model that a file or a config.json beside it says; None where neither does."""
    said = (contents.config.get("architecture"), contents.words.get("arch"))
    return next((name for name in said if isinstance(name, str) and timm.is_model(name)), None)


def _of_another(
    contents: files.Contents, about: Mapping[str, Any], backbone: str, network: str | None
) -> Weights | None:
    """Return the weights of a backbone that a person names, where shapes tell another, and all of its own are there."""
    with suppress(UserError):  # of weights that only look like a layout's
        if networks(contents) and _same(backbone, fit(contents, choose(contents, network)[0], backbone).backbone):
            return None
    return _by_name(contents, about, backbone, network, whole=True)


def _same(one: str, other: str) -> bool:
    return Backbone.parse(one).name == Backbone.parse(other).name


def _by_name(
    contents: files.Contents, about: Mapping[str, Any], backbone: str, network: str | None, whole: bool = False
) -> Weights | None:
    """Return the weights of a model whose own names a file has.

    Return None where it lacks some, or has them of other shapes, and ``whole`` asks for all of them. Raises
    `UserError`.
    """
    name = Backbone.parse(backbone).name
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    size = int(config.input_size[-1]) if config is not None else 32
    own = build(backbone, size).state_dict()
    prefix = by_names(contents, own, network)
    found = {} if prefix is None else below(contents, prefix)
    state = {key: value for key, value in found.items() if key in own}
    if whole and misfit(own, {**counters(own), **state}) is not None:
        return None
    if prefix is None:
        raise UserError(
            f"{nothing(contents).partition(';')[0]}; give the --backbone that they are of, since {backbone} has "
            f"{listing([*own][:SHOWN])}."
        )
    heads = [*dict.fromkeys(key.partition(".")[0] for key in found if key not in own)]
    without = f"; without {', '.join(heads[:SHOWN])}" if heads else ""
    said = f"{prefix.rstrip('.') or 'weights'} -> {backbone} at {size} px{without}"
    return Weights(contents.path, state, backbone, transform_of(contents, about, size), said)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _numbers(values: Any) -> tuple[float, ...] | None:
    """Return a list of numbers as one of floats; None for anything else."""
    good = isinstance(values, list) and values and all(type(value) in (int, float) for value in values)
    return tuple(map(float, values)) if good else None
