"""A folder for the Hugging Face Hub: timm's own, which transformers loads too."""

from dataclasses import replace
from pathlib import Path

from ...tools.errors import UserError
from . import timm_folder
from .subject import Subject, Written

LOADED = """
# or by transformers, which asks timm for the net
from transformers import AutoModel

net = AutoModel.from_pretrained("{folder}").eval()
with torch.no_grad():
    features = net(pixel_values=images).pooler_output  # [N, {width}]
"""


def write(subject: Subject, folder: Path, shown: str) -> Written:
    """Write the folder, which is called ``shown`` later, as for timm. Raises `UserError` for what timm cannot build."""
    if subject.backbone == "small":
        raise UserError(
            "The small net is no architecture of timm's, so transformers cannot build it from a folder; use --to timm, "
            "which brings its Python file, or --to onnx."
        )
    written = timm_folder.write(subject, folder, shown)
    return replace(written, usage=written.usage + LOADED.format(folder=shown, width=written.features))
