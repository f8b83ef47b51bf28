"""The argument SOURCE of a command, and the options of sources."""

from collections.abc import Sequence
from functools import wraps
from typing import Any

import click

from ..tools.errors import UserError
from .expression import PLUGIN, Command, Share, data_options, stacked

SOURCE_OPTIONS = stacked(
    data_options,
    click.option("--backbone", help="Of weights in a file, or of 'random'."),
    click.option("--layer", default="encoder", show_default=True, help="Of a run: encoder or projector."),
    click.option(
        "--network",
        help="Of a run or of a file with several: online, target, or of a file a prefix of its keys.  [default: "
        "online; of a file with a teacher that]",
    ),
    click.option(
        "--interpolation",
        help="nearest, bilinear, bicubic, box, hamming or lanczos, by Pillow.  [default: "
        "the source's own, as its size, --crop-pct, --mean and --std]",
    ),
    click.option("--crop-pct", type=float, metavar="SHARE", help="Of the resized shorter side, that the centre takes."),
    click.option("--mean", metavar="R,G,B", help="What is taken from pixels in [0, 1]."),
    click.option("--std", metavar="R,G,B", help="What they are divided by then."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of untrained backbones and of what is drawn."),
    click.option("--workers", type=int, help="Processes that read image files; by default cores less one, 2 to 16."),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="ROLE=NAME",
        help="In files of features: which column, or "
        "array, has the features, labels, files or splits.  [default: by their names]",
    ),
    click.option(
        "--hold-out",
        type=Share(),
        metavar="SHARE",
        help="Of files of features without splits: the share of the "
        "rows that ask, drawn by --seed.  [default: each row asks all others]",
    ),
    click.option("--cache/--no-cache", "cached", default=True, help="Keep features on disk and use them again."),
    PLUGIN,
)

SOURCES_HELP = """
    A SOURCE is a run directory, an expression in quotes (its untrained backbone), random (the default backbone,
    untrained), raw (the pixels), colours (histograms of them), a pretrained model (timm:NAME, timm:local-dir:PATH,
    torchvision:NAME, hf-hub:OWNER/NAME, torchhub:OWNER/NAME:MODEL), weights in a .safetensors, .pt, .pth, .ckpt, .bin
    or .pth.tar file or in a folder of Hugging Face's, or features: an .npz, .npy, .csv, .parquet, .pt or .safetensors
    file, or a folder of them.
"""


def source_options(command: Command) -> Command:
    """Give a command the options of sources, which it receives as one argument ``options``."""

    @wraps(command)
    def called(
        backbone: str | None, layer: str, network: str | None, device: str, seed: int, workers: int | None,
        cached: bool, columns: Sequence[str], hold_out: float | None, interpolation: str | None,
        crop_pct: float | None, mean: str | None, std: str | None, **others: Any,
    ) -> None:  # fmt: skip
        from ..data.given.options import NAMES
        from ..evaluation.given.banks import Reading
        from ..evaluation.sources import EmbedOptions
        from ..exchange.transform import Asked, numbers

        asked = Asked(interpolation, crop_pct, numbers("--mean", mean), numbers("--std", std))
        options = EmbedOptions(
            **{name: others.pop(name) for name in NAMES}, device=device, seed=seed, workers=workers, backbone=backbone,
            layer=layer, network=network, cached=cached, reading=Reading(roles(columns), hold_out, seed),
            transform=asked,
        )  # fmt: skip
        command(options=options, **others)

    return SOURCE_OPTIONS(called)


def roles(columns: Sequence[str]) -> dict[str, str]:
    """Return the columns by their roles, of words as labels=species. Raises `UserError`."""
    found = {}
    for word in columns:
        role, equals, name = word.partition("=")
        if not (role and equals and name) or role in found:
            raise UserError(f"--column cannot be {word!r}; it is ROLE=NAME, as in labels=species, once for each role.")
        found[role] = name
    return found


def explained(command: Command) -> Command:
    """Return a command whose help ends with what a source is."""
    command.__doc__ = (command.__doc__ or "") + "\n    \b" + SOURCES_HELP
    return command
