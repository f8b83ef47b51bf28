"""A folder for timm: ``config.json`` as timm writes it, and ``model.safetensors``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any, cast

import timm
from timm.models import save_for_hf
from torch import Tensor, nn

from ...core.backbones import STEM, Backbone, SmallNet
from ...tools.errors import UserError, kind_and_words
from . import pictures, stem
from .beside import sslzoo_small
from .subject import Subject, Written, compared

SMALL = "sslzoo_small"  # the architecture and its module's name
LOADED = """\
{before}import timm
import torch
{imports}{after}
net = timm.create_model("local-dir:{folder}", pretrained=True, num_classes=0).eval()
{images}with torch.no_grad():
    features = net(images)  # [N, {width}]
"""
PICTURE = """\
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
{square}images = transform(image)[None]{repeats}
"""


@dataclass(frozen=True)
class Timm:
    """Holds a net that timm builds by its own hand, with our weights, and what its config says.

    ``scale`` is how much larger its images are than ours, by repeated pixels.
    """

    net: nn.Module
    args: Mapping[str, Any]
    scale: int = 1


def write(subject: Subject, folder: Path, shown: str) -> Written:
    """Write the folder, which is called ``shown`` later, and compare what timm makes of it with the encoder.

    Raises `UserError` for what timm cannot build.
    """
    made = as_timm(subject)
    size, scale = subject.size * made.scale, made.scale
    interpolation = "bilinear" if scale == 1 else stem.INTERPOLATION
    save(made, folder, subject, size, interpolation)
    net = loaded(folder, subject)

    def features(pixels: Tensor) -> Tensor:
        images = subject.normalised(pixels)
        return cast(Tensor, net(images if scale == 1 else stem.repeated(images)))

    found, width = compared(subject, features)
    notes, before, after = [], "", ""
    if scale > 1:
        notes.append(
            f"The stem for small images is written as the one that timm has, which takes images {scale} times larger "
            f"with each pixel repeated: a picture goes first to {subject.size} px and then to {size} px. A picture of "
            "another size through timm's transform alone gives features that are near, and not the same."
        )
    if subject.backbone == "small":
        before = "import sys\n\n"
        after = f'\nsys.path.insert(0, "{shown}")\nimport {SMALL}  # which tells timm of the net\n'
        notes.append(f"timm has no such net: {SMALL}.py, beside the weights, has it, and is imported first.")
    imports, images = pictures.arrays(subject, normalise=True)
    if (square := pictures.square(subject)) is not None:
        repeats = "" if scale == 1 else f"  # which repeats pixels, to {size} px"
        imports, images = "from PIL import Image, ImageOps\n", PICTURE.format(square=square, repeats=repeats)
    else:
        images += "images = torch.from_numpy(images)" + (
            ".repeat_interleave(4, 2).repeat_interleave(4, 3)" * (scale > 1)
        )
        images += "\n"
    usage = LOADED.format(before=before, imports=imports, after=after, folder=shown, images=images, width=width)
    return Written(usage, found, width, size, interpolation, ("batch",), [(size, size)], notes)


def loaded(folder: Path, subject: Subject) -> nn.Module:
    """Return what timm makes of a folder. Raises `UserError` where it makes nothing of it."""
    try:
        return cast(nn.Module, timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)).eval()
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(
            f"timm does not load {subject.backbone} again as it was trained at {subject.size} px "
            f"({kind_and_words(error)}); use --to torch or onnx."
        ) from None


def as_timm(subject: Subject) -> Timm:
    """Return the net as timm builds it. Raises `UserError` for what timm cannot build."""
    encoder, args = subject.encoder, arguments(subject)
    if subject.own:
        raise UserError(
            f"{subject.backbone} is no model of timm's but a person's own, which timm cannot build; use --to torch or "
            "onnx."
        )
    scale = stem.SCALE if stem.is_small(encoder) else 1
    if scale > 1 and cast(nn.Conv2d, encoder.conv1).padding != (1, 1):
        raise UserError(
            f"{subject.backbone} begins with a 3x3 convolution padded by 2, which no stem of timm's can be; use --to "
            "torch or onnx."
        )
    try:
        name = SMALL if isinstance(encoder, SmallNet) else subject.name
        args |= stem.ARGUMENTS if scale > 1 else {}
        net = cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=0, **args)).eval()
        if scale > 1:
            stem.convert(encoder, net)
        else:
            net.load_state_dict(encoder.state_dict())
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(
            f"timm cannot build {subject.backbone} as it was trained at {subject.size} px ({kind_and_words(error)}); "
            "use --to torch or onnx."
        ) from None
    return Timm(net, args, scale)


def arguments(subject: Subject) -> dict[str, Any]:
    """Return what timm is told to build the backbone anew: what it was told, where it noted that, and its channels."""
    noted = dict(getattr(subject.encoder, "_model_args", None) or Backbone.parse(subject.backbone).args)
    args = {key: value for key, value in noted.items() if key not in ("num_classes", "in_chans")}
    if isinstance(subject.encoder, SmallNet) and STEM in (weights := subject.encoder.state_dict()):
        args[STEM] = int(weights[STEM])
    embedding = getattr(subject.encoder, "patch_embed", None)
    if (fixed := getattr(embedding, "img_size", None)) is not None:
        args.setdefault("img_size", fixed[0] if len(set(fixed)) == 1 else list(fixed))
    return {"in_chans": subject.channels, **args}


def save(made: Timm, folder: Path, subject: Subject, size: int, interpolation: str) -> None:
    """Write weights and config by timm's own function, without what it says of weights to download."""
    known = cast(dict[str, Any], made.net.pretrained_cfg)
    kept = ("architecture", "fixed_input_size", "first_conv", "classifier")
    config = {key: known[key] for key in kept if known.get(key) is not None}
    config |= {
        "input_size": (subject.channels, size, size), "mean": subject.mean, "std": subject.std, "num_classes": 0,
        "interpolation": interpolation, "crop_pct": 1.0, "crop_mode": "center",
    }  # fmt: skip
    made.net.pretrained_cfg = made.net.default_cfg = config  # type: ignore[assignment]
    save_for_hf(made.net, str(folder), model_args=dict(made.args), safe_serialization=True)
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model_args"].pop("num_classes", None)  # which transformers says itself; the config has it once more
    if subject.channels != 3:  # which timm's older versions would take for weights of three
        content["pretrained_cfg"]["first_conv"] = None
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if config["architecture"] == SMALL:
        copyfile(sslzoo_small.__file__, folder / f"{SMALL}.py")
