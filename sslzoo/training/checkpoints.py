"""Checkpoints of a run: last.pt and those before it, each whole, of plain tensors, and read with suspicion."""

import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..tools import files
from ..tools.errors import UserError

FORMAT = 3
State = dict[str, Any]


def name(before: int) -> str:
    """The file of the newest checkpoint, or of one so many before it."""
    return f"last-{before}.pt" if before else "last.pt"


def write(run: Path, content: Mapping[str, Any], keep: int = 1) -> None:
    """Write the newest checkpoint of a run and keep the ones before it, ``keep`` in all.

    At every moment last.pt is there and whole. Raises `UserError`.
    """
    newest = run / name(0)
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    if newest.exists() and keep > 1:
        for before in reversed(range(1, keep - 1)):
            if (run / name(before)).exists():
                os.replace(run / name(before), run / name(before + 1))
        _duplicate(newest, run / name(1))
    files.write(newest, buffer.getvalue(), f"make room, and 'sslzoo train --resume {run}' goes on")


def _duplicate(path: Path, other: Path) -> None:
    """A second name for a file, whole or not there; a copy where the disk knows no second names."""
    if other.exists() and os.path.samefile(path, other):  # a kill came between the two names; renaming would do nothing
        return
    temporary = files.temporary(other)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)


def place(path: Path) -> tuple[Path, Path]:
    """The run and the checkpoint that a path means: a run directory's newest, or one of its files."""
    if path.suffix == ".pt" and path.is_file():
        return path.parent, path
    return path, path / name(0)


def read(path: Path) -> State:
    """The content of a checkpoint. Raises `UserError`, which offers the one before, for one that is of no use."""
    run, file = place(path)
    if not os.path.isfile(file):
        raise UserError(f"{run} holds no {name(0)}, so there is nothing to go on from; {mend(run, file)}.")
    try:
        found = _content(file)
    except Exception as error:  # torch and zipfile raise many kinds for a file that is none of ours, or cut off
        kind = type(error).__name__
        raise UserError(f"{file} is cut off or no checkpoint of sslzoo ({kind}); {mend(run, file)}.") from None
    if not _is_ours(found):
        raise UserError(f"{file} is of another version of sslzoo, whose format is not {FORMAT}; {mend(run, file)}.")
    return dict(found)


def _content(file: Path) -> Any:
    """What a file holds, whose sums are checked first; raises whatever is wrong with it."""
    with file.open("rb") as opened:
        with zipfile.ZipFile(opened) as archive:
            if (broken := archive.testzip()) is not None:
                raise ValueError(broken)
        opened.seek(0)
        return torch.load(opened, map_location="cpu", weights_only=True)


def _is_ours(found: Any) -> bool:
    """Whether a checkpoint's content is of this version."""
    return isinstance(found, dict) and type(found.get("format")) is int and found["format"] == FORMAT


def mend(run: Path, file: Path) -> str:
    """What to do where a checkpoint cannot be used: the first one before it that can, or a new run."""
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
        return _is_ours(_content(path))
    except Exception:  # as in `read`
        return False


def go_back(file: Path) -> None:
    """Make another checkpoint the newest one."""
    newest = file.with_name(name(0))
    if file != newest:
        _duplicate(file, newest)
