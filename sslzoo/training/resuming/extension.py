"""How a run that has ended goes on beyond its end."""

from dataclasses import dataclass, replace
from pathlib import Path

from ...recipes.recipe import read_method
from ...tools.bounds import check_numbers
from ...tools.errors import UserError, listing
from ..options import Extension
from ..runs import RunAbout

SCHEDULES = ("cosine", "constant")
MOST_RATE = 100  # times the run's learning rate


@dataclass(frozen=True)
class Beyond:
    """Says what a person asks for: epochs in all, the schedule, and what of the learning rate it begins at."""

    epochs: int
    schedule: str = "cosine"
    rate: float | None = None


def extended(path: Path, about: RunAbout, done: tuple[int, int], beyond: Beyond) -> RunAbout:
    """Return what is said of a run that goes on beyond its end, of which ``done`` epochs and steps are trained.

    Raises `UserError`.
    """
    check_numbers(epochs=beyond.epochs)
    if beyond.schedule not in SCHEDULES:
        raise UserError(f"--schedule cannot be {beyond.schedule!r}; it is {listing(SCHEDULES)}.")
    if beyond.rate is not None and not 0 < beyond.rate <= MOST_RATE:
        raise UserError(f"--rate cannot be {beyond.rate:g}; it is a share of the run's learning rate, as 0.1.")
    if beyond.epochs == about.all_epochs:
        return about
    if beyond.epochs < about.all_epochs:
        raise UserError(f"{path} has {about.all_epochs} epochs; give --epochs more than that, or leave it out.")
    if done != (about.all_epochs, 0):
        raise UserError(
            f"{path} has trained {done[0]} of its {about.all_epochs} epochs; go on to its end first, without --epochs."
        )
    rate = beyond.rate or last_rate(path, about)
    if not rate:
        raise UserError(
            f"{path} ended at a learning rate of 0; say with --rate from what of its own it goes on, as 0.1."
        )
    made = Extension(start=done[0], epochs=beyond.epochs, schedule=beyond.schedule, rate=rate)
    return replace(about, extended=(*(about.extended or ()), made))


def last_rate(path: Path, about: RunAbout) -> float:
    """Return at what of its learning rate a run ended."""
    if about.extended and about.extended[-1].schedule == "constant":
        return about.extended[-1].rate
    return float(read_method(path / "recipe.toml").tables[""].get("optimizer.lr_end", 0.0))
