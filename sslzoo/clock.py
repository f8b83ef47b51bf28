"""The clock of a training: steps done and to do, for what follows a schedule."""

from torch import nn


class Clock(nn.Module):
    """Counts on the host, so that no step waits for the device; a checkpoint's state has it beside the tensors."""

    steps: int | None = None  # length of the training; `sslzoo.optimizer` sets it

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs, self.done = epochs, 0

    @property
    def epoch(self) -> float:
        """How many epochs are done; 0 as long as the length of the training is not known."""
        return self.done * self.epochs / self.steps if self.steps else 0.0

    def get_extra_state(self) -> dict[str, int]:
        """The steps done."""
        return {"done": self.done}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take them up again."""
        self.done = state["done"]
