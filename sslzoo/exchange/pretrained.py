"""Pretrained models of timm and of torchvision, by name."""

from typing import cast

import timm
from torch import nn

from ..core.encoders import build
from ..tools.errors import UserError, did_you_mean


def pretrained(name: str) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    """Return a timm model with its published weights, its image size, mean and deviation. Raises `UserError`."""
    if not timm.is_model(name):
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}.")
    try:
        model = build(name, 224, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # whatever the hub's client raises without a network or weights
        raise UserError(
            f"The weights of timm:{name} are neither cached nor to be had ({type(error).__name__}); "
            "run once with a network, or choose a model that is cached."
        ) from None
    config = timm.data.resolve_model_data_config(model)
    return model, int(config["input_size"][-1]), tuple(config["mean"]), tuple(config["std"])


def of_torchvision(name: str) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    """Return a classifier of torchvision's with its weights, less its last linear layer; else do as `pretrained`."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier {name!r}{did_you_mean(name, known)}.")
    weights = models.get_model_weights(name)["DEFAULT"]
    try:
        model = cast(nn.Module, models.get_model(name, weights=weights))
    except Exception as error:  # whatever the download raises
        raise UserError(
            f"The weights of torchvision:{name} are neither cached nor to be had ({type(error).__name__}); "
            "run once with a network, or choose a model that is cached."
        ) from None
    classes = len(weights.meta["categories"])
    last = [path for path, module in model.named_modules() if _classifies(module, classes)][-1]
    parent, _, child = last.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    transform = weights.transforms()
    return model, int(transform.crop_size[0]), tuple(transform.mean), tuple(transform.std)


def _classifies(module: nn.Module, classes: int) -> bool:
    """Return whether a layer may be the one that gives classes: a linear one, or a 1x1 convolution to so many."""
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.out_channels == classes)
