"""Layouts of weights: by which keys one is told, and how it becomes timm's. A further one is a line of `LAYOUTS`."""

from .layout import USUAL_HEADS, Fit, Layout, State, Unknown
from .renamed import RENAMED
from .residual import Numbered, Residual
from .small import Small
from .transformer import Transformer

__all__ = ["LAYOUTS", "USUAL_HEADS", "Fit", "Layout", "State", "Unknown"]

LAYOUTS: tuple[Layout, ...] = (Small(), Residual(), Numbered(4), Numbered(2), Transformer(), *RENAMED)
