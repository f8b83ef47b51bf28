"""Models that others published, by name: timm's, torchvision's, Hugging Face's and torch.hub's."""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import timm
import torch
from torch import nn

from ..core.backbones import DRAWING, Backbone, build
from ..tools.errors import UserError, did_you_mean, in_a_line
from . import files
from .layouts import LAYOUTS
from .networks import choose, fit
from .transform import Transform
from .weights import Weights

LOCAL, HUB = "local-dir:", "hf-hub:"
SMALL = "sslzoo_small"  # the architecture that our small net has in timm
REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Published:
    """Holds a published network without its classifier, what is done to its images, and timm's name of it, if any."""

    net: nn.Module
    transform: Transform
    backbone: str | None = None


def is_published(name: str) -> bool:
    """Return whether a name is that of a published model, by what stands before its colon, or of a folder of timm's."""
    return name.startswith(tuple(SOURCES)) or is_of_timm(folder_of(name))


def folder_of(name: str) -> Path:
    """Return the folder that a name means: a folder itself, or that of the one file of weights in it."""
    path = Path(os.path.expanduser(name))
    return path.parent if path.name in files.WHOLE else path


def is_of_timm(folder: Path) -> bool:
    """Return whether a folder holds a model as timm writes it: its config.json names the architecture."""
    try:
        return isinstance(json.loads((folder / files.CONFIG).read_bytes()).get("architecture"), str)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def published(name: str) -> Published:
    """Return a published model by its name, as timm:resnet50, or by its folder. Raises `UserError`."""
    if not name.startswith(tuple(SOURCES)):
        name = f"timm:{LOCAL}{folder_of(name)}"
    prefix = next(prefix for prefix in SOURCES if name.startswith(prefix))
    chatty = logging.getLogger("huggingface_hub")  # which tells of every try to reach the hub
    level = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # hubs say on standard output what they download
            found = SOURCES[prefix](name.removeprefix(prefix))
    finally:
        chatty.setLevel(level)
    found.net.eval()
    return found


def weights_of(name: str) -> Weights:
    """Return the weights of a published model by the names of a backbone of timm's. Raises `UserError`."""
    found = published(name)
    state, transform = found.net.state_dict(), found.transform
    if found.backbone is not None:
        return Weights(Path(name), state, found.backbone, transform)
    contents = files.Contents(Path(name), state)
    if not any(layout.is_below("", state) for layout in LAYOUTS):
        raise UserError(
            f"{name} is neither a residual net nor a ViT, which alone can be trained on; take one of timm's."
        )
    shaped = fit(contents, choose(contents, None)[0])
    return Weights(Path(name), shaped.state, shaped.backbone, transform, "; ".join(shaped.notes))


def of_timm(name: str) -> Published:
    """Return a timm model with its published weights, or of a folder as timm writes it. Raises `UserError`."""
    if name.startswith(LOCAL):
        return _of_folder(Path(os.path.expanduser(name.removeprefix(LOCAL))))
    plain = Backbone.parse(name).name
    if not timm.is_model(plain):
        raise UserError(f"timm has no model {name!r}{did_you_mean(plain, timm.list_models())}.")
    try:
        model = build(name, 224, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # whatever the hub's client raises without a network or weights
        _not_to_be_had(f"timm:{name}", error)
    return Published(model, Transform.of_timm(timm.data.resolve_model_data_config(model)), name)


def _of_folder(folder: Path) -> Published:
    """Return the model of a folder with a config.json and weights, as timm's save_for_hf writes it."""
    if not os.path.isfile(folder / files.CONFIG):
        raise UserError(f"{folder} is no folder of timm's, since it has no config.json; give one that has.")
    if is_of_timm(folder) and json.loads((folder / files.CONFIG).read_bytes())["architecture"] == SMALL:
        from .export.beside import sslzoo_small  # noqa: F401  # our own file tells timm of it, and none of the folder's
    return _of_config(f"{LOCAL}{folder}", f"timm:{LOCAL}{folder}", folder)


def of_hub(name: str) -> Published:
    """Return a model of Hugging Face's hub that timm can read. Raises `UserError`."""
    if not REPO.fullmatch(name):
        raise UserError(f"{HUB}{name} is no name of a repository; it is {HUB}OWNER/NAME.")
    return _of_config(f"{HUB}{name}", f"{HUB}{name}", None)


def _of_config(name: str, called: str, folder: Path | None) -> Published:
    """Return a model that timm finds by a config.json, with the backbone that its architecture and arguments are."""
    try:
        with DRAWING:
            model = cast(nn.Module, timm.create_model(name, pretrained=True, num_classes=0))
    except Exception as error:  # of the hub's client, of a broken config, or of weights that do not fit it
        if folder is None:
            _not_to_be_had(called, error)
        raise UserError(f"{called} cannot be read ({in_a_line(error)}); give a folder as timm writes it.") from None
    config = cast(Mapping[str, Any], model.pretrained_cfg)
    args = _arguments(folder) if folder is not None else {}
    plain = all(isinstance(value, str | bool | int | float) for value in args.values()) if args is not None else False
    backbone = str(Backbone(str(config["architecture"]), args)) if plain and args is not None else None
    backbone = "small" if config["architecture"] == SMALL else backbone
    return Published(model, Transform.of_timm(timm.data.resolve_model_data_config(model)), backbone)


def _arguments(folder: Path) -> dict[str, Any] | None:
    """Return the arguments of a folder's model, but those that a backbone has anyway; None where they are unknown."""
    found = json.loads((folder / files.CONFIG).read_text(encoding="utf-8")).get("model_args", {})
    if not isinstance(found, dict):
        return None
    return {key: value for key, value in found.items() if key not in ("img_size", "in_chans", "num_classes")}


def of_torchvision(name: str) -> Published:
    """Return a classifier of torchvision's with its weights, less its last linear layer. Raises `UserError`."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}{did_you_mean(name, known)}.")
    weights = models.get_model_weights(name)["DEFAULT"]
    try:
        model = cast(nn.Module, models.get_model(name, weights=weights))
    except Exception as error:  # whatever the download raises
        _not_to_be_had(f"torchvision:{name}", error)
    classes = len(weights.meta["categories"])
    without_classifier(model, classes)
    how = weights.transforms()
    transform = Transform(
        int(how.crop_size[0]), int(how.resize_size[0]), str(how.interpolation.value), "center",
        tuple(map(float, how.mean)), tuple(map(float, how.std)),
    )  # fmt: skip
    return Published(model, transform)


def without_classifier(model: nn.Module, classes: int) -> None:
    """Put nothing in the place of a model's last layer that gives so many classes."""
    last = [path for path, module in model.named_modules() if _classifies(module, classes)][-1]
    parent, _, child = last.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())


def _classifies(module: nn.Module, classes: int) -> bool:
    """Return whether a layer may be the one that gives classes: a linear one, or a 1x1 convolution to so many."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.out_channels == classes)


def of_torch_hub(name: str) -> Published:
    """Return a model of a repository's hubconf.py, whose code runs: OWNER/NAME:MODEL, or FOLDER:MODEL.

    Raises `UserError`.
    """
    repo, _, entry = name.rpartition(":")
    folder = Path(os.path.expanduser(repo))
    if not entry or not repo or not (folder.is_dir() or REPO.fullmatch(repo.partition(":")[0])):
        raise UserError(f"torchhub:{name} is no model; it is torchhub:OWNER/NAME:MODEL, or torchhub:FOLDER:MODEL.")
    place = {"repo_or_dir": str(folder), "source": "local"} if folder.is_dir() else {"repo_or_dir": repo}
    try:
        model = torch.hub.load(  # type: ignore[no-untyped-call]
            model=entry, trust_repo=True, skip_validation=True, verbose=False, **place
        )
    except Exception as error:  # of the download, or of the repository's own code
        _not_to_be_had(f"torchhub:{name}", error)
    if not isinstance(model, nn.Module):
        raise UserError(f"torchhub:{name} gives a {type(model).__name__} and no network; name another model.")
    *_, last = model.modules()
    if isinstance(last, nn.Linear) and last.out_features == 1000:  # ImageNet's classes
        without_classifier(model, 1000)
    return Published(model, Transform.usual(224, large=True))


def _not_to_be_had(name: str, error: Exception) -> NoReturn:
    raise UserError(
        f"The weights of {name} are neither cached nor to be had ({type(error).__name__}); "
        "run once with a network, or choose a model that is cached."
    ) from None


SOURCES: Mapping[str, Callable[[str], Published]] = {
    "timm:": of_timm, "torchvision:": of_torchvision, HUB: of_hub, "torchhub:": of_torch_hub,
}  # fmt: skip
