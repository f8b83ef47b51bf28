"""A folder that is written whole or not at all, in place of nothing but what is ours."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...tools.errors import UserError, listing
from ...tools.files import UNFINISHED, is_ours, reason, temporary
from .formats import FILES

CARD = "README.md"
PASSED_OVER = ("__pycache__",)  # which Python writes beside a module of ours
ABANDONED = 3600  # seconds after which a folder that is half-written belongs to a process that was killed


def check(out: Path, read: Sequence[Path], force: bool) -> None:
    """Raise `UserError` for a place where no folder can be written, or one that holds what is not ours.

    ``read`` are folders that are no place for it. With ``force``, files of the names that are written may be replaced.
    """
    if not os.path.isdir(out.parent):
        raise UserError(f"There is no folder {out.parent}; make it first or give --out another place.")
    if any(os.path.isdir(out) and os.path.samefile(out, one) for one in read):
        raise UserError(f"--out {out} is what is read; give --out another place.")
    if os.path.lexists(out) and not os.path.isdir(out):
        raise UserError(f"{out} is a file; give --out a folder.")
    try:
        os.lstat(out)
        there = sorted(os.listdir(out))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a name that no folder can have, too
        raise UserError(f"{out} cannot be written ({reason(error)}); give --out another place.") from None
    kept = {*ours(out), *PASSED_OVER}
    others = [name for name in there if name not in kept and not UNFINISHED.fullmatch(name)]
    if others and not force:
        raise UserError(
            f"{out} holds {listing_of(others)}, which sslzoo did not write; give --out another place, or --force to "
            "replace files of the same names."
        )


def listing_of(names: Sequence[str]) -> str:
    """Return the first names, and how many more."""
    more = len(names) - 2
    return listing(names) if more <= 0 else f"{', '.join(names[:2])} and {more:,} more"


def ours(out: Path) -> set[str]:
    """Return the files of a folder that sslzoo wrote: those of its names, beside a card of ours."""
    if not (os.path.isfile(out / CARD) and is_ours(out / CARD)):
        return set()
    return {name for name in FILES if os.path.isfile(out / name)}


@contextmanager
def filled(out: Path) -> Iterator[Path]:
    """Give the block a folder to fill, which becomes ``out`` at its end, or whose files take the place of ours there.

    Raises `UserError` where it cannot be written; whatever ends the block, nothing is left half-written.
    """
    there = os.path.isdir(out)
    stage = temporary(out / "x") if there else temporary(out)
    _sweep(stage.parent)
    try:
        with _written(out):
            stage.mkdir()
        yield stage
        with _written(out):
            if there:
                _replace(stage, out)
            else:
                os.rename(stage, out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove folders that processes which were killed have left half-written."""
    with suppress(OSError):
        for entry in os.scandir(parent):
            old = UNFINISHED.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > ABANDONED
            if old and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{out} cannot be written ({reason(error)}); make room or give --out another place.") from None


def _replace(stage: Path, out: Path) -> None:
    """Move new files into a folder and those of ours that were there out of it; on an error, all are put back."""
    new = sorted(os.listdir(stage))
    old = [name for name in sorted({*new, *ours(out)}) if os.path.lexists(out / name)]
    aside = stage / "aside"
    aside.mkdir()
    undo: list[Callable[[], None]] = []
    try:
        for name, source, target in [*((n, out, aside) for n in old), *((n, stage, out) for n in new)]:
            os.rename(source / name, target / name)
            undo.append(lambda name=name, source=source, target=target: os.rename(target / name, source / name))  # type: ignore[misc]
    except BaseException:
        for step in reversed(undo):
            with suppress(OSError):
                step()
        raise
