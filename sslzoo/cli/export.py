"""``sslzoo export``: the encoder of a run, for other libraries."""

from pathlib import Path

import click

from .. import show
from ..exchange.export.formats import FORMATS
from .bench import FORCE
from .expression import AS_JSON, PLUGIN
from .interrupt import at_work
from .output import emit


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--to", required=True, type=click.Choice([*FORMATS]), help="The library that it is for.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--network", default="online", show_default=True, help="online or target.")
@click.option("--with", "part", type=click.Choice(["projector"]), help="What stands behind the encoder, for torch and "
              "onnx.")  # fmt: skip
@click.option("--normalise/--no-normalise", default=None, help="Whether what torch and onnx run takes pixels in [0, 1] "
              "and normalises them itself.  [default: normalise]")  # fmt: skip
@click.option("--licence", metavar="ID", help="What the model card says, as mit or cc-by-4.0.  [default: not stated]")
@click.option("--push", metavar="REPO", help="A repository of the Hugging Face Hub where it goes too; for timm and hf.")
@FORCE
@PLUGIN
@AS_JSON
def export(
    run: Path, to: str, out: Path, network: str, part: str | None, normalise: bool | None, licence: str | None,
    push: str | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the encoder of a RUN for other libraries, with a model card: none of them needs sslzoo to load it.

    \b
    sslzoo export runs/simsiam-photos-s0-1 --to timm --out simsiam-photos
    sslzoo export runs/byol-photos-s0-1 --to onnx --out byol-photos --network target --with projector

    \b
    timm         a folder for timm.create_model("local-dir:DIR", pretrained=True)
    torchvision  model.pth, a state dict of torchvision's residual nets and ViTs
    torch        model.pt2, a program of torch.export
    onnx         model.onnx, checked with onnxruntime
    hf           a folder for the Hugging Face Hub, for transformers and timm
    """
    from ..evaluation.exporting import export as write

    at_work()
    made = write(
        run, to=to, out=out, network=network, projector=part is not None, normalise=normalise, licence=licence,
        force=force, push=push,
    )  # fmt: skip
    if as_json:
        emit(made.to_json())
        return
    files = ", ".join(f"{name} ({size / 1e6:,.1f} MB)" for name, size in made.files.items())
    show.line(f"{made.out}: {files}")
    show.line(
        f"{made.features} features of images of {made.size} px; largest difference to the run's own "
        f"{made.difference:.1e}"
    )
    for note in made.notes:
        show.line(note)
    if made.pushed is not None:
        show.line(f"pushed: {made.pushed}")
