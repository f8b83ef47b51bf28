"""Residual nets: timm's and torchvision's names, which are equal, and numbers of layers in a torch.nn.Sequential."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .layout import Fit, Layout, State, Unknown, numbered

STAGES = range(1, 5)
OF_NET = re.compile(r"(conv1|bn1|maxpool|layer[1-4])\.")
POOL = "maxpool.0.weight"  # where a convolution has the pool's place, as timm's replace_stem_pool makes it
SHORTCUT = re.compile(r"\.shortcut\.")  # in nets for 32 px, where others have a downsample
KERNELS = {7: ("7x7", 224), 3: ("3x3", 32)}  # of the first convolution: the stem, and the usual size in px


class Shape(NamedTuple):
    """Describes a residual net: whether its blocks have three convolutions, how many, their width and their groups."""

    bottleneck: bool
    depth: tuple[int, ...]
    width: int
    groups: int


NAMES = {
    Shape(False, (2, 2, 2, 2), 64, 1): "resnet18",
    Shape(False, (3, 4, 6, 3), 64, 1): "resnet34",
    Shape(True, (3, 4, 6, 3), 64, 1): "resnet50",
    Shape(True, (3, 4, 23, 3), 64, 1): "resnet101",
    Shape(True, (3, 8, 36, 3), 64, 1): "resnet152",
    Shape(True, (3, 4, 6, 3), 128, 1): "wide_resnet50_2",
    Shape(True, (3, 4, 23, 3), 128, 1): "wide_resnet101_2",
    Shape(True, (3, 4, 6, 3), 128, 32): "resnext50_32x4d",
    Shape(True, (3, 4, 23, 3), 128, 32): "resnext101_32x4d",
    Shape(True, (3, 4, 23, 3), 256, 32): "resnext101_32x8d",
    Shape(True, (3, 4, 23, 3), 256, 64): "resnext101_64x4d",
}


class Residual(Layout):
    """Has timm's and torchvision's names of a residual net."""

    words = "a residual net's"
    anchors = ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight")

    def fit(self, state: State, config: Mapping[str, Any]) -> Fit:
        own = {SHORTCUT.sub(".downsample.", key): value for key, value in state.items() if OF_NET.match(key)}
        left = tuple(key for key in state if not OF_NET.match(key))
        kernel = int(own["conv1.weight"].shape[-1])
        shape = shape_of(own)
        name = NAMES.get(shape)
        if name is None or kernel not in KERNELS:
            nearest = min(NAMES, key=lambda known: distance(shape, known))
            blocks, kind = ", ".join(map(str, shape.depth)), "three" if shape.bottleneck else "two"
            raise Unknown(
                f"blocks of {kind} convolutions ({blocks} a stage, width {shape.width}, {shape.groups} groups, a first "
                f"kernel of {kernel}) are of no backbone that is known here, the nearest is {NAMES[nearest]}"
            )
        stem, size = KERNELS[kernel]
        notes = (f"padded by 1: shapes do not tell (--backbone {name}:stem=3x3p2 for 2)",) if kernel == 3 else ()
        pool = ",replace_stem_pool=true" if POOL in own else ""
        return Fit(own, f"{name}:stem={stem}{pool}", size, left, notes)


def shape_of(state: State) -> Shape:
    """Return what the shapes say of a residual net."""
    bottleneck = "layer1.0.conv3.weight" in state
    inner = state["layer1.0.conv2.weight"]
    depth = tuple(len(numbered(state, f"layer{stage}.")) for stage in STAGES)
    return Shape(bottleneck, depth, inner.shape[0], inner.shape[0] // max(inner.shape[1], 1))


def distance(one: Shape, other: Shape) -> tuple[bool, int, int]:
    """Return how far two nets are from each other, the kind of block first."""
    blocks = sum(abs(a - b) for a, b in zip(one.depth, other.depth, strict=True))
    return one.bottleneck != other.bottleneck, blocks, abs(one.width - other.width) + abs(one.groups - other.groups)


class Numbered(Layout):
    """Has the layers of a residual net by their numbers in a torch.nn.Sequential, the stages from ``first`` on."""

    def __init__(self, first: int):
        self.first, self.words = first, "a residual net's, numbered"
        self.anchors = ("0.weight", "1.running_mean", f"{first}.0.conv1.weight", f"{first + 3}.0.conv1.weight")

    def fit(self, state: State, config: Mapping[str, Any]) -> Fit:
        names = {0: "conv1", 1: "bn1", **{self.first + i: f"layer{i + 1}" for i in range(4)}}
        named: State = {}
        for key, value in state.items():
            number, _, rest = key.partition(".")
            known = names.get(int(number)) if number.isdecimal() else None
            named[f"{known}.{rest}" if known else key] = value
        return Residual().fit(named, config)
