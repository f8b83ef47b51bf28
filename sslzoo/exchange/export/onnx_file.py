"""An ONNX file, ``model.onnx``, which onnxruntime has run at several batches before it counts as written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...tools.errors import UserError, kind_and_words
from . import pictures, traced
from .subject import Subject, Written, compared, difference

FILE = "model.onnx"
TOLERANCE = 1e-4  # of features, as a part of the largest; another library adds in another order
LARGEST = 1_900_000_000  # bytes of weights in one file, below the 2 GB of the format
LOADED = """\
import onnxruntime
{imports}
net = onnxruntime.InferenceSession("{folder}/model.onnx")
{images}(features,) = net.run(None, {{"images": images}})  # [N, {width}]
"""


def write(subject: Subject, folder: Path, shown: str) -> Written:
    """Write ``model.onnx``, and compare what onnxruntime makes of it with the encoder, of 1 image and of 7.

    ``shown`` is the folder's name. Raises `UserError` for a net that cannot be written so.
    """
    whole = traced.Whole(subject).eval()
    large = sum(value.nbytes for value in whole.state_dict().values()) > LARGEST

    def written_with(axes: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
        free = {traced.AXES[name]: name for name in axes}
        torch.onnx.export(
            whole, (subject.pixels(2),), folder / FILE, input_names=["images"], output_names=["features"],
            dynamic_shapes=(free,), dynamo=True, external_data=large, verbose=False,
        )  # fmt: skip
        return run(folder / FILE)

    with traced.quiet():
        try:
            net, axes, tried = traced.freest(subject, written_with, TOLERANCE)
            one = subject.pixels(1)
            alone = difference(net(traced.shown(subject, one)), subject.features(one))
        except Exception as error:  # the tracer, the converter and the runtime raise whatever they meet
            raise UserError(
                f"{subject.backbone} cannot be written as ONNX ({kind_and_words(error)}); use --to torch or timm."
            ) from None
        found, width = compared(subject, lambda pixels: net(traced.shown(subject, pixels)), TOLERANCE)
    if not alone <= TOLERANCE:
        raise UserError(f"onnxruntime gives other features of one image (by {alone:.1e}); use --to torch or timm.")
    imports, images = pictures.arrays(subject, normalise=not subject.normalise)
    usage = LOADED.format(folder=shown, imports=imports, images=images, width=width)
    notes = traced.notes(subject, axes, tried)
    return Written(usage, max(found, alone), width, subject.size, "bilinear", axes, tried, notes)


def run(file: Path) -> Callable[[Tensor], Tensor]:
    """Return what maps images to features by onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # sizes that a net does not take are tried too
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def features(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])

    return features
