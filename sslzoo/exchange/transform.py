"""What is done to images before an encoder that somebody published: its own size, cut, mean and deviation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..data.decoded.crops import INTERPOLATIONS, Crop
from ..data.splits import IMAGENET
from ..tools.errors import UserError, listing

OURS = "ours"  # the shorter side resized, antialiased bilinearly, and the centre kept, by torch
USUAL_CROP = 0.875  # of ImageNet's nets
PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
MOST_STD = 10.0  # of pixels in [0, 1]
EDGES = ("shortest_edge", "height", "width")


@dataclass(frozen=True)
class Transform:
    """Describes what is done to an image: cut to ``size`` px, divided by 255, less the mean, over the deviation.

    ``resize`` px has the side that `data.decoded.crops.Crop` says before the centre is kept. The interpolation "ours"
    is that of our own views. Without a mean those of the data are taken. ``guessed`` says what nobody told.
    """

    size: int
    resize: int
    interpolation: str = OURS
    mode: str = "center"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    guessed: str = ""

    @property
    def crop(self) -> Crop | None:
        """The cut by Pillow; None where it is that of our own views."""
        if self.interpolation == OURS and self.resize == self.size and self.mode == "center":
            return None
        fill = tuple(round(255 * value) for value in self.mean or (0.0, 0.0, 0.0))
        by = "bilinear" if self.interpolation == OURS else self.interpolation
        return Crop(self.size, self.resize, by, self.mode, fill)

    @classmethod
    def of_timm(cls, config: Mapping[str, Any]) -> Self:
        """Return the transform of a data config of timm's, as `timm.data.resolve_model_data_config` gives it."""
        size = max(int(side) for side in tuple(config["input_size"])[-2:])
        share, mode = config.get("crop_pct") or USUAL_CROP, config.get("crop_mode") or "center"
        return cls(
            size, math.floor(size / share), str(config.get("interpolation") or "bicubic"), str(mode),
            _floats(config["mean"]), _floats(config["std"]),
        )  # fmt: skip

    @classmethod
    def of_processor(cls, config: Mapping[str, Any]) -> Self | None:
        """Return the transform of Hugging Face's preprocessor_config.json; None where it does not say all of it."""
        sizes, crop = config.get("size"), config.get("crop_size")
        sizes = {"shortest_edge": sizes} if isinstance(sizes, int) else sizes
        crop = crop.get("height") if isinstance(crop, Mapping) else crop
        if not isinstance(sizes, Mapping) or not all(key in config for key in ("image_mean", "image_std")):
            return None
        edge = next((sizes[key] for key in EDGES if isinstance(sizes.get(key), int)), None)
        if edge is None:
            return None
        crops = bool(config.get("do_center_crop")) and isinstance(crop, int)
        by = PILLOW.get(config.get("resample", 2), "bilinear")
        mode = "center" if "shortest_edge" in sizes else "squash"
        size = int(crop) if crops and crop is not None else edge
        return cls(size, edge, by, mode, _floats(config["image_mean"]), _floats(config["image_std"]))

    @classmethod
    def usual(cls, size: int, large: bool) -> Self:
        """Return what is usual where a file does not say: of large views ImageNet's, of small ones the data's own."""
        if not large:
            return cls(size, size, guessed="usual")
        return cls(size, math.floor(size / USUAL_CROP), "bilinear", "center", *IMAGENET, guessed="usual")

    def changed(self, asked: "Asked", size: int | None) -> Self:
        """Return the transform with what a person asks for."""
        share = asked.crop_pct if asked.crop_pct is not None else self.size / self.resize
        px = size or self.size
        kept = asked.crop_pct is None and px == self.size
        found = replace(self, size=px, resize=self.resize if kept else math.floor(px / share + 1e-6))
        if asked.interpolation is not None:
            found = replace(found, interpolation=asked.interpolation)
        guessed = "else usual" if found.guessed and asked.named else found.guessed
        return replace(found, mean=asked.mean or found.mean, std=asked.std or found.std, guessed=guessed)

    @property
    def words(self) -> str:
        """The transform in words, with every number."""
        sides = {"center": "shorter side", "squash": "both sides", "border": "longer side"}
        how = "ours, antialiased bilinear" if self.interpolation == OURS else self.interpolation
        cut = "" if self.resize == self.size and self.mode == "squash" else f", centre of {self.size}"
        named = [("mean", self.mean), ("std", self.std)]
        numbers = [f"{name} {', '.join(f'{x:.4g}' for x in values)}" for name, values in named if values]
        numbers = numbers or ["mean and std of the data"]
        guess = f" ({self.guessed}: the file does not say)" if self.guessed else ""
        return f"{sides[self.mode]} to {self.resize} px ({how}){cut}; {'; '.join(numbers)}{guess}"


@dataclass(frozen=True)
class Asked:
    """Holds what a person asks of a transform; None leaves it to the source."""

    interpolation: str | None = None
    crop_pct: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def check(self) -> None:
        """Raise `UserError` for what cannot be."""
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            raise UserError(f"--interpolation cannot be {self.interpolation!r}; it is {listing(INTERPOLATIONS)}.")
        if self.crop_pct is not None and not 0.05 <= self.crop_pct <= 1:
            raise UserError(f"--crop-pct cannot be {self.crop_pct:g}; it is the centre's share of a side, up to 1.")
        if self.mean is not None and not all(0 <= x <= 1 for x in self.mean):
            raise UserError("--mean is of pixels in [0, 1]; divide means of pixels up to 255 by that.")
        if self.std is not None and not all(0 < x <= MOST_STD for x in self.std):
            raise UserError("--std cannot have numbers that are not above 0; give deviations of pixels in [0, 1].")
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise UserError(
                f"--mean has {len(self.mean)} numbers and --std {len(self.std)}; give one for each channel."
            )

    @property
    def named(self) -> list[str]:
        """The options that are given."""
        return [f"--{key.replace('_', '-')}" for key, value in vars(self).items() if value is not None]


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return the numbers of a text as 0.485,0.456,0.406. Raises `UserError`."""
    if text is None:
        return None
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(x) and abs(x) < 1e6 for x in found):
        raise UserError(f"{option} cannot be {text!r:.60}; it is a number for each channel, as in 0.485,0.456,0.406.")
    return found


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
