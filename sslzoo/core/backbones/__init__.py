"""Backbones: how one is named, and how it is built."""

from .building import DRAWING, build, check, synchronized
from .naming import Backbone, backbone_of
from .small import STEM, SmallNet

__all__ = ["DRAWING", "STEM", "Backbone", "SmallNet", "backbone_of", "build", "check", "synchronized"]
