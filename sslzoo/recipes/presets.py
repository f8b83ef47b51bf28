"""Presets: named ranges over a method's own views, for kinds of images; all of them are in presets.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "presets.toml"
OFF = "none"  # no preset


@dataclass(frozen=True)
class Preset:
    """Describes a preset: the images that it is for, why, the paper that says so, and its ranges, in tables.

    ``keeps_colour`` says that views of it have the colours of their image, or nearly.
    """

    title: str
    why: str
    paper: str = ""
    keeps_colour: bool = False
    views: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ranges(self) -> list[tuple[str, float, float]]:
        """Return its keys, as in "hue" or "local.hue", each with its lowest and its highest value."""
        found = []
        for key, value in self.views.items():
            for inner, bounds in value.items() if isinstance(value, Mapping) else [("", value)]:
                found.append((f"{key}.{inner}".rstrip("."), *bounds))
        return found

    def to_json(self, name: str) -> dict[str, Any]:
        """Return what ``methods presets --json`` prints of it; ``ranges`` has pairs of numbers by dotted knob."""
        ranges = {f"views.{key}": [float(low), float(high)] for key, low, high in self.ranges}
        about = {"name": name, "title": self.title, "why": self.why, "paper": self.paper or None}
        return {**about, "keeps_colour": self.keeps_colour, "ranges": ranges}


PRESETS = {name: Preset(**content) for name, content in tomllib.loads(FILE.read_text(encoding="utf-8")).items()}
