"""The formats in which an encoder goes out, one entry each; without torch, to start at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """Describes a format: what it is, and the place of its function below this folder ("file:function").

    The function writes a `subject.Subject` to a folder and returns a `subject.Written`. Where the format ``traced``
    computes by itself, a projector and the normalisation may be part of it. ``needs`` are the modules that only it
    imports, ``extra`` the extra of this package that brings them. ``library`` and ``tags`` stand at the head of the
    model card.
    """

    title: str
    place: str
    traced: bool = False
    needs: tuple[str, ...] = ()
    extra: str = ""
    library: str | None = None
    tags: tuple[str, ...] = ()


FORMATS = {
    "timm": Format(
        "a folder for timm.create_model('local-dir:DIR', pretrained=True)", "timm_folder:write", library="timm",
        tags=("timm",),
    ),
    "torchvision": Format("a state dict of torchvision's residual nets and ViTs", "torchvision_file:write"),
    "torch": Format("a program of torch.export", "torch_file:write", traced=True, library="pytorch"),
    "onnx": Format(
        "an ONNX file, checked with onnxruntime", "onnx_file:write", traced=True,
        needs=("onnx", "onnxscript", "onnxruntime"), extra="onnx", library="onnx", tags=("onnx",),
    ),
    "hf": Format(
        "a folder for the Hugging Face Hub, for transformers and timm", "hf_folder:write", library="timm",
        tags=("timm", "transformers"),
    ),
}  # fmt: skip

FILES = (  # all that any of them writes, by which a folder is told to be ours
    "README.md", "config.json", "model.safetensors", "model.pth", "model.pt2", "model.onnx", "model.onnx.data",
    "sslzoo_small.py",
)  # fmt: skip
