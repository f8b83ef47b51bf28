"""A plain state dict with torchvision's keys, for the residual nets and the ViTs that torchvision has."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from ...tools.errors import UserError, listing
from . import pictures, stem
from .subject import Subject, Written, compared

Weights = Mapping[str, Tensor]
FILE = "model.pth"
RESIDUAL = (  # whose keys are timm's too
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
TRANSFORMERS = {
    "vit_base_patch16_224": "vit_b_16", "vit_base_patch32_224": "vit_b_32", "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32", "vit_huge_patch14_224": "vit_h_14",
}  # fmt: skip
IN_A_VIT = (  # of timm's keys the patterns, and what torchvision has for them
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.encoder_layer_\1.ln_\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.encoder_layer_\1.self_attention.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.encoder_layer_\1.self_attention.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layers.encoder_layer_\1.mlp.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layers.encoder_layer_\1.mlp.3."),
)
LOADED = """\
import torch
import torchvision
{imports}
net = torchvision.models.{name}({arguments})
{changes}net.load_state_dict(torch.load("{folder}/model.pth", weights_only=True))
net.eval()
{images}with torch.no_grad():
    features = net(torch.from_numpy(images))  # [N, {width}]
"""


def write(subject: Subject, folder: Path, shown: str) -> Written:
    """Write ``model.pth``, and compare what torchvision makes of it with the encoder; ``shown`` is the folder's name.

    Raises `UserError` for a backbone that torchvision does not have.
    """
    architecture = subject.name.partition(".")[0]
    if subject.own or architecture not in (*RESIDUAL, *TRANSFORMERS):
        raise UserError(
            f"torchvision has no net with the keys of {subject.backbone}; --to torchvision takes "
            f"{listing([*RESIDUAL, *TRANSFORMERS])}, and --to timm takes more."
        )
    name = TRANSFORMERS.get(architecture, architecture)
    weights, arguments, changes = dict(subject.encoder.state_dict()), "", ""
    small = stem.is_small(subject.encoder)
    if architecture in TRANSFORMERS:
        weights, arguments, changes = (
            renamed(weights),
            f"image_size={subject.size}",
            "net.heads = torch.nn.Identity()\n",
        )
        first: nn.Conv2d | None = None if subject.channels == 3 else cast(nn.Conv2d, _at(subject.encoder))
    else:
        changes = "net.fc = torch.nn.Identity()\n"
        first = cast(nn.Conv2d, subject.encoder.conv1) if small or subject.channels != 3 else None
    place = "conv_proj" if architecture in TRANSFORMERS else "conv1"
    if first is not None:
        kernel, stride, padding = first.kernel_size[0], first.stride[0], first.padding[0]
        bias = "" if first.bias is not None else ", bias=False"
        said = f"{first.in_channels}, {first.out_channels}, {kernel}, {stride}, {padding}{bias}"
        changes += f"net.{place} = torch.nn.Conv2d({said})\n"
    changes += "net.maxpool = torch.nn.Identity()\n" if small else ""
    torch.save({key: value.contiguous() for key, value in weights.items()}, folder / FILE)
    net = rebuilt(models.get_model, name, first, place, {"image_size": subject.size} if arguments else {}, small)
    try:
        net.load_state_dict(torch.load(folder / FILE, weights_only=True))
    except RuntimeError:
        raise UserError(
            f"torchvision's {name} has other parts than {subject.backbone} as it was trained; use --to timm."
        ) from None
    found, width = compared(subject, lambda pixels: cast(Tensor, net.eval()(subject.normalised(pixels))))
    imports, images = pictures.arrays(subject, normalise=True)
    usage = LOADED.format(
        name=name, arguments=arguments, changes=changes, folder=shown, imports=imports, images=images,
        width=width,
    )  # fmt: skip
    return Written(usage, found, width, subject.size, "bilinear", ("batch",), [(subject.size, subject.size)])


def rebuilt(
    make: Callable[..., nn.Module], name: str, first: nn.Conv2d | None, place: str, arguments: Mapping[str, int],
    small: bool,
) -> nn.Module:  # fmt: skip
    """Return torchvision's net as the card's lines make it: no classifier, another first convolution, no pooling."""
    net = make(name, weights=None, **arguments)
    setattr(net, "heads" if isinstance(net, VisionTransformer) else "fc", nn.Identity())
    if first is not None:
        own = nn.Conv2d(
            first.in_channels, first.out_channels, cast(int, first.kernel_size), cast(int, first.stride),
            cast(int, first.padding), bias=first.bias is not None,
        )  # fmt: skip
        setattr(net, place, own)
    if small:
        net.maxpool = nn.Identity()
    return net


def renamed(weights: Weights) -> dict[str, Tensor]:
    """Return the weights of a ViT of timm's by torchvision's keys."""
    found = {}
    for key, value in weights.items():
        name = key
        for pattern, other in IN_A_VIT:
            name = re.sub(pattern, other, name)
        found[name] = value
    return found


def _at(encoder: nn.Module) -> nn.Module:
    return encoder.get_submodule("patch_embed.proj")
