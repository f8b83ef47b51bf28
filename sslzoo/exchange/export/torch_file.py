"""A program of torch.export: ``model.pt2``, which torch alone loads and runs."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ...tools.errors import UserError, kind_and_words
from . import pictures, traced
from .subject import TOLERANCE, Subject, Written, compared

FILE = "model.pt2"
LOADED = """\
{imports}import torch

net = torch.export.load("{folder}/model.pt2").module()
{images}features = net(torch.from_numpy(images))  # [N, {width}]
"""


def write(subject: Subject, folder: Path, shown: str) -> Written:
    """Write ``model.pt2``, and compare what is loaded from it with the encoder; ``shown`` is the folder's name.

    Raises `UserError` for a net that torch cannot trace.
    """
    whole = traced.Whole(subject).eval()

    def traced_with(axes: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
        free = {traced.AXES[name]: torch.export.Dim.DYNAMIC for name in axes}
        program = torch.export.export(whole, (subject.pixels(2),), dynamic_shapes=(free,))
        torch.export.save(program, folder / FILE)
        return cast(Callable[[Tensor], Tensor], torch.export.load(folder / FILE).module())

    with traced.quiet():
        try:
            net, axes, tried = traced.freest(subject, traced_with, TOLERANCE)
        except Exception as error:  # the tracer raises whatever it meets
            raise UserError(
                f"torch.export cannot trace {subject.backbone} ({kind_and_words(error)}); use --to timm."
            ) from None
        found, width = compared(subject, lambda pixels: net(traced.shown(subject, pixels)))
    imports, images = pictures.arrays(subject, normalise=not subject.normalise)
    usage = LOADED.format(folder=shown, imports=imports, images=images, width=width)
    return Written(usage, found, width, subject.size, "bilinear", axes, tried, traced.notes(subject, axes, tried))
