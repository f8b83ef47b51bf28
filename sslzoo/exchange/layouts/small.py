"""Our own four-layer net's weights."""

from collections.abc import Mapping
from math import log2
from typing import Any

from ...core.backbones import STEM
from .layout import Fit, Layout, State


class Small(Layout):
    """Has the keys of `SmallNet`."""

    words = "the small net's"
    anchors = ("layers.0.weight", "layers.9.weight", "layers.10.running_mean")

    def fit(self, state: State, config: Mapping[str, Any]) -> Fit:
        own = {key: value for key, value in state.items() if key.startswith("layers.") or key == STEM}
        stride = int(state[STEM]) if STEM in state else 1
        return Fit(own, "small", 32 * 2 ** round(log2(stride)), tuple(key for key in state if key not in own))
