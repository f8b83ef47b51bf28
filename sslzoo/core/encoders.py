"""Encoders, whoever made them: their features, and how wide these are."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..processes.agree import is_peer_lost
from ..tools.errors import UserError, kind_and_words, listing, no_memory

OUTPUTS = ("features", "x_norm_clstoken", "pooler_output", "embedding", "out")  # keys of features, the first counts
CHANNELS = (3, 1, 4, 2, *range(5, 14))  # of an image, to try with an encoder that does not say
USUAL_SIZES = (32, 224, 64, 96, 28, 16, 8, 128, 256)  # px, to find the width of an unknown encoder


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
        raise UserError(
            f"{name} takes no images of {size} px{many} ({kind_and_words(error, 80)}); choose {mend}."
        ) from None
    finally:
        model.train(training)


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
