"""The clock of a training: steps done and to do, for what follows a schedule."""

from math import inf

import torch
from torch import Tensor, nn


class Clock(nn.Module):
    """Counts on the host, so that no step waits for the device; a checkpoint's state has it beside the tensors.

    What reads the time stays outside of compiled graphs, which would be compiled anew in every step.
    """

    steps: int | None = None  # length of the training; `sslzoo.optimizer` sets it

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs, self.done = epochs, 0

    @property
    def epoch(self) -> float:
        """How many epochs are done; infinite, so that what is only at first is over, where the length is not known."""
        return self.done * self.epochs / self.steps if self.steps else inf

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def reached(self, epoch: float) -> bool:
        """Return whether so many epochs are done."""
        return self.epoch >= epoch

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def pushed(self, a_step: int, rows: int) -> bool:
        """Return whether the steps so far, of ``a_step`` keys each, gave so many rows."""
        return self.done * a_step >= rows

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def ramp(self, start: float, end: float, epochs: float) -> Tensor:
        """Return a number that goes from start to end in the first epochs, and stays; a scalar on the host."""
        return torch.tensor(start + (end - start) * min(self.epoch / epochs, 1.0), dtype=torch.float64)

    def get_extra_state(self) -> Tensor:
        """The steps done, as a tensor, which any file of weights can hold."""
        return torch.tensor(self.done)

    def set_extra_state(self, state: Tensor | dict[str, int]) -> None:
        """Take them up again; the first checkpoints had them in a dict."""
        self.done = int(state["done"] if isinstance(state, dict) else state)
