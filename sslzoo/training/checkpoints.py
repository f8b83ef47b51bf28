"""Checkpoints of a run: what one holds, last.pt and those before it, each whole and read with suspicion."""

import io
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..tools import files
from ..tools.errors import UserError
from ..tools.records import Misfit, Record
from .listeners.reporter import LogRow

FORMAT = 3


@dataclass(frozen=True, kw_only=True)
class LearnerState(Record):
    """Describes where a learner is: model and optimiser as torch has them, and the sums of the epoch's steps.

    ``loss`` [processes] has each process's sum over the ``done`` steps that were not ``skipped``. ``scaler`` is the
    gradients' scaler, where there is one.
    """

    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    done: int
    loss: Tensor
    skipped: int
    scaler: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(LearnerState):
    """Describes all that a resumed run needs to go on bit for bit: the learner, random numbers, and the loop.

    ``random`` has the states of the generators: "torch", "views" and, on a GPU, "cuda". ``recipe`` is the text of the
    recipe's file. ``position`` is how many steps of the epoch are done; ``images`` and ``trained_seconds`` are sums
    over the run; ``health`` has the epoch's numbers so far, and ``log`` the rows of the epochs that have ended.
    """

    random: Mapping[str, Tensor]
    recipe: str
    epoch: int
    position: int
    images: int
    trained_seconds: float
    health: Sequence[Mapping[str, float]]
    log: Sequence[LogRow]

    def to_json(self) -> dict[str, Any]:
        """Return the content of a file: tensors and the states of torch as they are, and the log's rows as dicts."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found["log"] = [row.to_json() for row in self.log]
        if self.scaler is None:
            del found["scaler"]
        return found


def name(before: int) -> str:
    """Return the file's name of the newest checkpoint, or of one so many before it."""
    return f"last-{before}.pt" if before else "last.pt"


def write(run: Path, checkpoint: Checkpoint, keep: int = 1) -> None:
    """Write the newest checkpoint of a run and keep the ones before it, ``keep`` in all.

    At every moment last.pt is there and whole. Raises `UserError`.
    """
    newest = run / name(0)
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **checkpoint.to_json()}, buffer)
    if newest.exists() and keep > 1:
        for before in reversed(range(1, keep - 1)):
            if (run / name(before)).exists():
                os.replace(run / name(before), run / name(before + 1))
        _duplicate(newest, run / name(1))
    files.write(newest, buffer.getvalue(), f"make room, and 'sslzoo train --resume {run}' goes on")


def _duplicate(path: Path, other: Path) -> None:
    """Give a file a second name, whole or not there; make a copy where the disk knows no second names."""
    if other.exists() and os.path.samefile(path, other):  # a kill came between the two names; renaming would do nothing
        return
    temporary = files.temporary(other)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)


def locate(path: Path) -> tuple[Path, Path]:
    """Return the run and the checkpoint that a path means: a run directory's newest, or one of its files."""
    if path.suffix == ".pt" and path.is_file():
        return path.parent, path
    return path, path / name(0)


def read(path: Path) -> Checkpoint:
    """Return a run's newest checkpoint, or the one that a file holds.

    Raises `UserError`, which offers the one before, for one that is of no use.
    """
    run, file = locate(path)
    if not os.path.isfile(file):
        raise UserError(f"{run} holds no {name(0)}, so there is nothing to go on from; {recovery_hint(run, file)}.")
    try:
        found = _content(file)
    except Exception as error:  # torch and zipfile raise many kinds for a file that is none of ours, or cut off
        kind = type(error).__name__
        hint = recovery_hint(run, file)
        raise UserError(f"{file} is cut off or no checkpoint of sslzoo ({kind}); {hint}.") from None
    if not _is_ours(found):
        hint = recovery_hint(run, file)
        raise UserError(f"{file} is of another version of sslzoo, whose format is not {FORMAT}; {hint}.")
    try:
        return Checkpoint.from_json(found)
    except Misfit:
        raise UserError(f"{file} belongs to another recipe or is damaged; {recovery_hint(run, file)}.") from None


def _content(file: Path) -> Any:
    """Return what a file holds, whose sums are checked first; raise whatever is wrong with it."""
    with file.open("rb") as opened:
        with zipfile.ZipFile(opened) as archive:
            if (broken := archive.testzip()) is not None:
                raise ValueError(broken)
        opened.seek(0)
        return torch.load(opened, map_location="cpu", weights_only=True)


def _is_ours(found: Any) -> bool:
    """Return whether a checkpoint's content is of this version."""
    return isinstance(found, dict) and type(found.get("format")) is int and found["format"] == FORMAT


def recovery_hint(run: Path, file: Path) -> str:
    """Say what to do where a checkpoint cannot be used: take the first one before it that can, or a new run."""
    numbers = {_before(path): path for path in run.glob("last*.pt")}
    for before in sorted(numbers):
        if before > _before(file) and _usable(numbers[before]):
            return f"'sslzoo train --resume {numbers[before]}' goes on from the one before"
    return f"'sslzoo train {run / 'recipe.toml'}' starts anew"


def _before(path: Path) -> int:
    number = path.stem.removeprefix("last").removeprefix("-")
    return int(number) if number.isdigit() else 0


def _usable(path: Path) -> bool:
    try:
        found = _content(path)
        return _is_ours(found) and bool(Checkpoint.from_json(found))
    except Exception:  # as in `read`
        return False


def go_back(file: Path) -> None:
    """Make another checkpoint the newest one."""
    newest = file.with_name(name(0))
    if file != newest:
        _duplicate(file, newest)
