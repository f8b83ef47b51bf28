"""Backbones: timm's, with a small-image stem for residual nets, and a four-layer net for the CPU."""

from collections.abc import Mapping
from functools import partial
from math import log2
from typing import cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..processes import batchnorm
from ..processes.agree import is_peer_lost
from ..processes.locks import fork_safe
from ..recipes import plugins
from ..recipes.schema import SMALL_UP_TO
from ..tools.errors import UserError, did_you_mean, kind_and_words, listing, no_memory

OUTPUTS = ("features", "x_norm_clstoken", "pooler_output", "embedding", "out")  # keys of features, the first counts
CHANNELS = (3, 1, 4, 2, *range(5, 14))  # of an image, to try with an encoder that does not say
USUAL_SIZES = (32, 224, 64, 96, 28, 16, 8, 128, 256)  # px, to find the width of an unknown encoder

DRAWING = fork_safe()  # weights are drawn from torch's one generator of all threads, seeded under locks of torch's own


STEM = "stem_stride"  # of a state dict: the first convolution's, where that is not 1


class SmallNet(nn.Module):
    """Four convolutions with batch norm, widths 16 to 128; its features are the 4x4 map, flattened.

    The map is kept, not averaged: on small images the place of a stroke is what tells shapes apart. Of images
    larger than about 45 px the first convolution has a stride, the power of two nearest to the size over 32: the map
    after it has about 32 px, and the net costs what it does on such images.
    """

    num_features = 128 * 4 * 4

    def __init__(self, image_size: int = 32, channels: int = 3) -> None:
        super().__init__()
        stem = 1 << max(0, round(log2(image_size / 32)))
        layers: list[nn.Module] = []
        for fan_in, fan_out, stride in ((channels, 16, stem), (16, 32, 2), (32, 64, 2), (64, 128, 2)):
            kernel = max(3, 2 * stride - 1)
            layers += [
                nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(fan_out),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        if stem > 1:  # weights of a net without it fit, and would give other features
            self.register_buffer(STEM, torch.tensor(stem))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return (x if x.shape[-2:] == (4, 4) else F.adaptive_avg_pool2d(x, 4)).flatten(1)


def check(name: str) -> None:
    """Raise `UserError` for a backbone that is neither "small" nor one of timm's."""
    if name != "small" and not timm.is_model(name) and plugins.backbone(name) is None:
        if name.startswith(plugins.GIVEN):
            raise UserError(
                f"The backbone is a {name.removeprefix(plugins.GIVEN)} that was given in Python; give it there again, "
                "with sslzoo.Run(..., backbone=...)."
            )
        known = timm.list_models()
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, known)}; 'small' and timm's names are allowed.")


def build(name: str, image_size: int, pretrained: bool = False, channels: int = 3) -> nn.Module:
    """Return a backbone without its classifier: "small", any of timm's names, or a plugin's.

    Raises `UserError` for an unknown one, and for one that takes no images of this size in px.

    Residual nets for images up to 64 px get a 3x3 stem of stride 1 and no max pooling (SimSiam, appendix D).
    """
    check(name)
    with DRAWING:
        return _build(name, image_size, pretrained, channels)


def _build(name: str, image_size: int, pretrained: bool, channels: int) -> nn.Module:
    if name == "small":
        return SmallNet(image_size, channels)
    if (make := plugins.backbone(name)) is not None:
        own = plugins.called(f"backbone {name}", lambda: make(image_size))
        if not isinstance(own, nn.Module):
            raise UserError(f"The plugin's backbone {name} is a {type(own).__name__} and no torch.nn.Module; mend it.")
        check_size(own, name, image_size, channels=channels)
        return own
    size = {"img_size": image_size} if _takes_size(name) and not pretrained else {}
    try:
        model = cast(
            nn.Module, timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **size)
        )
    except (RuntimeError, ValueError, AssertionError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} cannot be built for {image_size} px ({said}); choose another backbone.") from None
    if image_size <= SMALL_UP_TO and not pretrained and hasattr(model, "maxpool") and hasattr(model, "conv1"):
        stem = nn.Conv2d(channels, cast(nn.BatchNorm2d, model.bn1).num_features, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        model.conv1, model.maxpool = stem, nn.Identity()
    if not pretrained:
        check_size(model, name, image_size, channels=channels)
    return model


def synchronized(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a model with batch norm over the rows of all processes: torch's, by timm's hand, on CUDA; else our own."""
    if device.type == "cuda":
        return cast(nn.Module, timm.layers.convert_sync_batchnorm(model))
    return batchnorm.convert_sync_batchnorm(model)


def check_size(
    model: nn.Module, name: str, size: int, mend: str = "another --image-size or --backbone", channels: int = 3
) -> None:
    """Raise `UserError` for a model that takes no images of this size; one is tried."""
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:  # assertions and RuntimeErrors of its layers
        many = "" if channels == 3 else f" and {channels} channels"
        raise UserError(f"{name} takes no images of {size} px{many} ({type(error).__name__}); choose {mend}.") from None
    finally:
        model.train(training)


def _takes_size(name: str) -> bool:
    """Return whether a model is made for one image size (transformers), so that it has to be told ours."""
    return bool(timm.get_pretrained_cfg(name) and timm.get_pretrained_cfg(name).fixed_input_size)


def flat(output: object) -> Tensor:
    """Return what an encoder gives as features [N, D]: of a dict its features, and maps or tokens one after another.

    Raises `UserError` for what holds none.
    """
    if isinstance(output, Mapping):
        found = next((output[key] for key in OUTPUTS if isinstance(output.get(key), Tensor)), None)
        if found is None:
            keys = ", ".join(map(str, output))
            raise UserError(f"The encoder gives a dict with {keys}; features are looked for in {listing(OUTPUTS)}.")
        output = found
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise UserError(f"The encoder gives a {kind} and no tensor; wrap it so that it gives features [N, D].")
    if output.ndim < 2 or 0 in output.shape[1:]:
        raise UserError(f"The encoder gives features of shape {list(output.shape)}; they have to be [N, D].")
    if not output.is_floating_point():
        raise UserError(f"The encoder gives features of {output.dtype}; they have to be real numbers, as float32.")
    return output.flatten(1)


def features_of(encoder: nn.Module, images: Tensor) -> Tensor:
    """Return an encoder's features [N, D] of images [N, C, H, W].

    Raises `UserError` for images that it does not take, and where it does not give a row an image that learns.
    """
    try:
        features = flat(encoder(images))
    except (RuntimeError, TypeError, ValueError, AssertionError, IndexError) as error:  # its layers may raise anything
        machine = no_memory(error) or "CUDA error" in str(error)
        if isinstance(error, UserError) or machine or (isinstance(error, RuntimeError) and is_peer_lost(error)):
            raise
        raise UserError(
            f"The encoder takes no views of shape {list(images.shape)}, {images.dtype} on {images.device} "
            f"({kind_and_words(error)}); give it the channels, size, dtype and device that it is made for."
        ) from error
    if len(features) != len(images):
        raise UserError(
            f"The encoder gives {len(features)} rows for {len(images)} images of shape {list(images.shape[1:])}; let "
            "it give a row an image, of views [N, C, H, W]."
        )
    if torch.is_grad_enabled() and not features.requires_grad and any(p.requires_grad for p in encoder.parameters()):
        raise UserError("The encoder's features have no gradient, so it would not learn; let it detach nothing.")
    return features


def feature_width(encoder: nn.Module) -> int:
    """The width of an encoder's features: what timm's attributes say, else what it gives for an image.

    Of an image its first convolution says how many channels it takes; lazy layers are made by it. Raises `UserError`.
    """
    if not isinstance(encoder, nn.Module) or not hasattr(encoder, "_parameters"):  # that is made by its __init__
        kind = f"the class {encoder.__name__}" if isinstance(encoder, type) else f"a {type(encoder).__name__}"
        raise UserError(f"The encoder is {kind} and no torch.nn.Module that is ready to map images; give one.")
    place, last = [*encoder.named_modules()][-1]
    if type(encoder).__module__.startswith("torchvision.models") and isinstance(last, nn.Linear):
        raise UserError(
            f"The encoder ends in a classifier ({place}, of {last.out_features} classes), and what it gives would be "
            "taken for features; put a torch.nn.Identity() there."
        )
    lazy = any(is_lazy(parameter) for parameter in encoder.parameters())
    for name in ("head_hidden_size", "num_features"):
        width = getattr(encoder, name, None)
        if isinstance(width, int) and not isinstance(width, bool) and not lazy:
            return width
    if any(parameter.is_meta for parameter in encoder.parameters()):
        raise UserError("The encoder is on the meta device, without weights; load some, after to_empty(device='cpu').")
    first = next((module for module in encoder.modules() if isinstance(module, nn.modules.conv._ConvNd)), None)
    likely = () if first is None or not first.in_channels else (first.in_channels,)
    channels = (*likely, *(number for number in CHANNELS if number not in likely))
    parameter = next(encoder.parameters(), torch.zeros(()))
    of = partial(torch.zeros, dtype=parameter.dtype, device=parameter.device)
    training, said = encoder.training, ""
    encoder.eval()
    try:
        for size in USUAL_SIZES:
            for number in channels:
                try:
                    with torch.no_grad():
                        output = encoder(of(1, number, size, size))
                except Exception as error:  # made for other images; its layers may raise anything
                    said = kind_and_words(error)
                else:
                    return flat(output).shape[1]
    finally:
        encoder.train(training)
    raise UserError(
        f"The encoder takes images of none of {USUAL_SIZES} px ({said}); give it an attribute num_features."
    )
