"""Backbones built by their names: timm's, with a small-image stem for residual nets, the small net, and plugins'."""

import inspect
from typing import cast

import timm
import torch
from torch import nn

from ...processes import batchnorm
from ...processes.locks import fork_safe
from ...recipes import plugins
from ...recipes.schema import SMALL_UP_TO
from ...tools.errors import UserError, did_you_mean, in_a_line
from ..encoders import check_size
from .naming import Backbone
from .small import SmallNet

DRAWING = fork_safe()  # weights are drawn from torch's one generator of all threads, seeded under locks of torch's own


def check(text: str) -> None:
    """Raise `UserError` for a backbone that is neither "small" nor one of timm's."""
    backbone = Backbone.parse(text)
    name = backbone.name
    if name == "small" or plugins.backbone(name) is not None:
        if backbone.args or backbone.stem or backbone.norm_eps:
            raise UserError(f"The backbone {name} takes no arguments; leave {text[len(name) :]!r} out.")
        return
    if not timm.is_model(name):
        if name.startswith(plugins.GIVEN):
            raise UserError(
                f"The backbone is a {name.removeprefix(plugins.GIVEN)} that was given in Python; give it there again, "
                "with sslzoo.Run(..., backbone=...)."
            )
        known = timm.list_models()
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, known)}; 'small' and timm's names are allowed.")


def build(name: str, image_size: int, pretrained: bool = False, channels: int = 3) -> nn.Module:
    """Return a backbone without its classifier: "small", any of timm's names, perhaps with arguments, or a plugin's.

    Raises `UserError` for an unknown one, and for one that takes no images of this size in px.

    Residual nets for images up to 64 px get a 3x3 stem of stride 1 and no max pooling (SimSiam, appendix D), unless
    their name says otherwise.
    """
    check(name)
    with DRAWING:
        return _build(Backbone.parse(name), image_size, pretrained, channels)


def _build(backbone: Backbone, image_size: int, pretrained: bool, channels: int) -> nn.Module:
    name = backbone.name
    if name == "small":
        return SmallNet(image_size, channels)
    if (make := plugins.backbone(name)) is not None:
        own = plugins.called(f"backbone {name}", lambda: make(image_size))
        if not isinstance(own, nn.Module):
            raise UserError(f"The plugin's backbone {name} is a {type(own).__name__} and no torch.nn.Module; mend it.")
        check_size(own, name, image_size, channels=channels)
        return own
    model = _create(backbone, image_size, pretrained, channels)
    if backbone.norm_eps is not None:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = backbone.norm_eps
    residual = hasattr(model, "maxpool") and isinstance(getattr(model, "conv1", None), nn.Conv2d)
    if backbone.stem is not None and not residual:
        raise UserError(f"{name} has no stem to choose; leave stem={backbone.stem} out.")
    small = backbone.stem is None and image_size <= SMALL_UP_TO and not pretrained
    if residual and (small or backbone.stem in ("3x3", "3x3p2")):
        padding = 2 if backbone.stem == "3x3p2" else 1
        stem = nn.Conv2d(channels, cast(nn.BatchNorm2d, model.bn1).num_features, 3, 1, padding, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        model.conv1, model.maxpool = stem, nn.Identity()
    if not pretrained:
        check_size(model, name, image_size, channels=channels)
    return model


def _create(backbone: Backbone, image_size: int, pretrained: bool, channels: int) -> nn.Module:
    """Return timm's model; one that is made for one size of view (transformers) is told ours, and takes others too."""
    name, args = backbone.name, dict(backbone.args)
    args |= {"pretrained": pretrained, "num_classes": 0, "in_chans": channels}
    if is_of_one_size(name) and not pretrained:
        args["img_size"] = image_size
    tries = [{**args, "dynamic_img_size": True}, args] if takes_any_size(name) else [args]
    for given in tries:
        try:
            return cast(nn.Module, timm.create_model(name, **given))
        except TypeError as error:
            if given is tries[-1]:
                raise UserError(
                    f"{name} cannot be built with {dict(backbone.args)} ({in_a_line(error)}); leave these out."
                ) from None
        except (RuntimeError, ValueError, AssertionError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{name} cannot be built for {image_size} px ({said}); choose another backbone.") from None
    raise AssertionError


def is_of_one_size(name: str) -> bool:
    """Return whether a model is made for one image size (transformers), so that it has to be told ours."""
    return bool(timm.get_pretrained_cfg(name) and timm.get_pretrained_cfg(name).fixed_input_size)


def takes_any_size(name: str) -> bool:
    """Return whether a model resamples its position embeddings for the size of the images that it is given."""
    module = inspect.getmodule(timm.model_entrypoint(name))
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    return is_of_one_size(name) and any(
        "dynamic_img_size" in inspect.signature(kind.__init__).parameters for kind in kinds
    )


def synchronized(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a model with batch norm over the rows of all processes: torch's, by timm's hand, on CUDA; else our own."""
    if device.type == "cuda":
        return cast(nn.Module, timm.layers.convert_sync_batchnorm(model))
    return batchnorm.convert_sync_batchnorm(model)
