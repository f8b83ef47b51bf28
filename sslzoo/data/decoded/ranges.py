"""Which values are black and white in pictures of more than 8 bits, and how many channels a picture is read to."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from ...tools.errors import UserError

Values = npt.NDArray[Any]  # [H, W, channels], of the file's own numbers

MOST_CHANNELS = 13
ROWS = 512  # of a picture that are scaled at a time


@dataclass(frozen=True)
class Range:
    """The values that are black and white: what lies between is gray, what lies beyond is clipped, NaN is black."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: object) -> "Range | None":
        """Return the range of ``--range LOW,HIGH``, two numbers of which the second is larger; None of None.

        Raises `UserError`.
        """
        if text is None:
            return None
        try:
            low, high = map(float, str(text).split(","))
        except ValueError:
            raise UserError(f"--range cannot be {text!r}; it is two numbers, as in --range 0,4095.") from None
        if not (isfinite(low) and isfinite(high) and low < high and 0 < 255 / (high - low) < inf):
            raise UserError(f"--range cannot be {text!r}; its first number is black, and a larger one white.")
        return cls(low, high)

    def __str__(self) -> str:
        return f"{number(self.low)},{number(self.high)}"

    def to_8_bits(self, values: Values) -> npt.NDArray[np.uint8]:
        """Return values of any shape as uint8: the low end is 0, the high end 255."""
        shown = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), ROWS):  # float64 of all of them may not fit the memory
            part = np.nan_to_num(values[start : start + ROWS].astype(np.float64), nan=self.low)
            shown[start : start + ROWS] = np.rint((part.clip(self.low, self.high) - self.low) * self.scale)
        return shown

    @property
    def channels(self) -> int:
        """Return the number of channels that pictures are read to: three colours."""
        return 3

    @property
    def given(self) -> bool:
        """Return whether a person says it."""
        return True

    @property
    def scale(self) -> float:
        """Return the grays of one step."""
        return 255 / (self.high - self.low)


@dataclass(frozen=True)
class Bands(Range):
    """The values that are black and white in pictures of any number of channels but three, where somebody says so."""

    count: int
    asked: bool

    def __str__(self) -> str:
        return f"{self.count} channels" + (f", {super().__str__()}" if self.asked else "")

    @property
    def channels(self) -> int:
        return self.count

    @property
    def given(self) -> bool:
        return self.asked

    @property
    def note(self) -> str:
        """Return what is read, in a sentence."""
        many = f"{self.count} channel{'s' * (self.count > 1)} as they are in the file (--channels)"
        return many + (f"; {number(self.low)} is black, {number(self.high)} white (--range)" if self.asked else "")


def reading(range: object, channels: int | None) -> Range | None:
    """Return how pictures are read by ``--range`` and ``--channels``; None where both are as always.

    Raises `UserError`.
    """
    shown = Range.parse(range)
    if channels is None or channels == 3:
        return shown
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        raise UserError(f"--channels cannot be {channels!r}; it is from 1 to {MOST_CHANNELS}.")
    low, high = (0.0, 255.0) if shown is None else (shown.low, shown.high)
    return Bands(low, high, channels, shown is not None)


def number(value: float) -> str:
    """Return a number as a person writes it."""
    return f"{value:.15g}"
