"""A run directory to look into from Python: what was trained, on what, how well, and its encoder."""

import html
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from ...data.formats.items import name_of
from ...data.picture import pixels_of, square
from ...recipes.algebra import parse
from ...recipes.layers import Circumstances, resolve_here
from ...recipes.plugins import give_backbone
from ...recipes.recipe import Recipe
from ...tools.arguments import checked
from ...tools.errors import UserError
from ...training import runs
from ...training.listeners.reporter import LogRow, Result
from ...training.run import AnyData, resume
from ...views.given import Augment
from ..benchmark import Request, benchmark
from ..drawn.curves import curves
from ..embedding import Embedding
from ..encode import embed
from ..evaluate import Evaluation
from ..protocols import chosen
from ..results import BenchmarkRow, UnlabelledRow
from ..sources import EmbedOptions


class Transform:
    """Makes of a picture what the encoder was evaluated with: float32 [3, size, size], normalised.

    The shorter side is resized to ``size`` px, antialiased, and the centre is kept. A picture is one of Pillow's of 8
    bits, or uint8 [H, W], [H, W, 3] of numpy or [3, H, W] of torch.
    """

    def __init__(self, size: int, mean: tuple[float, ...], std: tuple[float, ...]):
        self.size, self.mean, self.std = size, mean, std

    def __call__(self, picture: "Image.Image | np.ndarray[Any, Any] | Tensor") -> Tensor:
        found = pixels_of(picture)
        if found is None:
            shape = list(picture.shape) if hasattr(picture, "shape") else ""
            raise UserError(
                f"A {type(picture).__name__} {shape} is no picture; give one of Pillow's, uint8 [H, W, 3] of numpy, or "
                "uint8 [3, H, W] of torch."
            )
        pixels = square(found[None], self.size)[0].float() / 255
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.mean, self.std))
        return (pixels - mean) / std

    def __repr__(self) -> str:
        return f"Transform(size={self.size}, mean={self.mean}, std={self.std})"


class Run:
    """A run directory, ``path``, to look into: recipe, log, encoder, features and kNN, from files alone.

    A ``backbone`` that was given as a torch.nn.Module has to be given again. Raises `UserError` for what is no run.
    """

    def __init__(self, path: str | Path, *, backbone: nn.Module | None = None):
        self.path = runs.named(path)
        self.about = runs.read_run(self.path)
        if backbone is not None and give_backbone(backbone) != self.about.backbone:
            raise UserError(
                f"{path} was trained with the backbone {self.about.backbone}, and not a {type(backbone).__name__}; "
                "leave backbone= out, or give its own."
            )

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that was trained, every value of it."""
        about = self.about
        device = "cuda" if "cuda" in about.device else "cpu"
        here = Circumstances(about.data, about.image_size, about.images, device)
        found = resolve_here(parse([str(self.path / "recipe.toml")]), here)
        return replace(found, expression=about.expression, method=about.method)

    @cached_property
    def encoder(self) -> nn.Module:
        """The trained online backbone, in eval mode; it maps what `transform` gives, stacked, to features [N, D]."""
        return runs.encoder(self.path)

    @property
    def transform(self) -> Transform:
        """What a picture passes on its way to the encoder, without augmentation. Raises `UserError` but for colours."""
        if len(self.about.mean) != 3:
            raise UserError(f"{self.path} is of {len(self.about.mean)} channels, and the transform is of pictures.")
        return Transform(self.about.image_size, tuple(self.about.mean), tuple(self.about.std))

    @property
    def rows(self) -> list[LogRow]:
        """The rows of log.csv, one an epoch."""
        return runs.read_log(self.path)

    @property
    def log(self) -> Any:
        """The log as a pandas.DataFrame, a row an epoch; where pandas is not installed, as a list of dicts."""
        rows = [row.to_json() for row in self.rows]
        try:
            import pandas as pd
        except ModuleNotFoundError:
            return rows
        return pd.DataFrame(rows)

    @property
    def result(self) -> Result | None:
        """What came of the run; None of one that has not ended."""
        file = self.path / "knn.json"
        return Result.read(file, f"{file} is broken; train the run anew.") if file.is_file() else None

    @checked
    def embed(
        self,
        data: AnyData | None = None,
        *,
        device: str = "auto",
        image_size: int | None = None,
        limit: int | None = None,
        layer: str = "encoder",
        network: str | None = None,
        cached: bool = True,
    ) -> Embedding:
        """Return the features of a data set, by default the run's own; all is as in `sslzoo.embed`."""
        options = EmbedOptions(
            data=name_of(data),
            device=device,
            image_size=image_size,
            limit=limit,
            layer=layer,
            network=network,
            cached=cached,
        )
        return embed(str(self.path), options, every=True)

    @checked
    def knn(
        self,
        data: AnyData | None = None,
        *,
        leave_one_out: bool = False,
        protocols: Sequence[str] = (),
        ks: Sequence[int] = (),
        device: str = "auto",
        image_size: int | None = None,
        limit: int | None = None,
    ) -> BenchmarkRow | UnlabelledRow:
        """Return kNN and retrieval on a data set, by default the run's own, as ``sslzoo knn`` prints them.

        ``limit`` is the number of training images that are the bank, by default all; ``protocols`` and ``ks`` are those
        of the command.
        """
        options = EmbedOptions(data=name_of(data), device=device, image_size=image_size, limit=limit)
        wanted = Evaluation(chosen(tuple(protocols), tuple(ks), None), leave_one_out)
        return benchmark(Request([str(self.path)], wanted, options)).result.rows[0]

    @checked
    def resume(
        self,
        *,
        data: AnyData | None = None,
        augment: Augment | None = None,
        callbacks: Sequence[object] = (),
        stop_after: int | None = None,
    ) -> Result:
        """Go on with the run from its last checkpoint, as `sslzoo.resume` does."""
        return resume(self.path, stop_after=stop_after, data=data, augment=augment, callbacks=callbacks)

    def plot(self) -> Figure:
        """Return a figure of what the log has by epoch: loss, kNN, rank and std."""
        if not self.rows:
            raise UserError(f"{self.path} has no epoch in its log yet; train it first.")
        return curves(self.about.expression, self.rows)

    def __repr__(self) -> str:
        about, rows = self.about, self.rows
        said = f"{about.expression} on {about.data}, {len(rows)} of {about.epochs} epochs"
        return f"Run({str(self.path)!r}: {said})"

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        about, rows = self.about, self.rows
        shown = {
            "run": self.path, "expression": about.expression, "data": f"{about.data}, {about.images:,} images",
            "backbone": f"{about.backbone}, {about.image_size} px", "epochs": f"{len(rows)} of {about.epochs}",
        }  # fmt: skip
        if rows:
            shown |= {"loss": f"{rows[-1].loss:.4f}", "rank": f"{rows[-1].rank:.1f}"}
            scored = [row.knn for row in rows if row.knn is not None]
            shown |= {"kNN (k = 20)": f"{scored[-1]:.3f}"} if scored else {}
        lines = (
            f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>" for key, value in shown.items()
        )
        return f"<table>{''.join(lines)}</table>"
