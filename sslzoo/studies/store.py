"""cells.json of a table's folder: the table as it stands, the runs that have ended, and those that have begun."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..tools.errors import UserError
from ..tools.records import Record, write_json
from .results import Table


@dataclass(frozen=True, kw_only=True)
class EndedRun(Record):
    """Describes a run that has ended: one seed of the cells with a key, with its numbers as in `results.Result`.

    ``expression`` spells the cell, ``notes`` say what makes its kNN mean less than it seems to, and ``run`` is the
    run's directory below the table's folder, None for a run that diverged before it had one. Numbers that are not
    finite, or need labels that the data does not have, are None.
    """

    key: str
    seed: int
    expression: str
    diverged: bool
    knn: float | None
    random_knn: float | None
    raw_knn: float | None
    loss: float | None
    std: float | None
    rank: float | None
    scores: Mapping[str, float]
    seconds: float
    run: str | None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Kept(Record):
    """Describes what is read back of cells.json; its table is made anew from it."""

    ended: Sequence[EndedRun]
    begun: Mapping[str, str]


class Store:
    """Holds what cells.json of a folder has; ``begun`` has a run's directory below the folder for each "KEY-SEED"."""

    def __init__(self, folder: Path):
        """Read the file where there is one. Raises `UserError` where it is broken."""
        self.folder, self.path = folder, folder / "cells.json"
        self.table: Table | None = None
        self.ended: list[EndedRun] = []
        self.begun: dict[str, str] = {}
        if self.path.is_file():
            kept = _Kept.read(
                self.path, f"{self.path} is broken or of another version of sslzoo; move {folder} away to start anew."
            )
            self.ended, self.begun = list(kept.ended), dict(kept.begun)

    def find(self, key: str, seed: int) -> EndedRun | None:
        """Return the record of a run that has ended; None for one that has not."""
        return next((one for one in self.ended if (one.key, one.seed) == (key, seed)), None)

    def save(self) -> None:
        """Write all, whole. Raises `UserError`."""
        table = {} if self.table is None else self.table.to_json()
        write_json(self.path, {**table, "ended": self.ended, "begun": self.begun})


def left_aside(folder: Path) -> str | None:
    """Say which tables of the same name lie beside a folder that is new, since they belong to something else."""
    name = folder.name.rpartition("-")[0]
    found = sorted(str(other.parent) for other in folder.parent.glob(f"{name}-????????/cells.json"))
    if not found or str(folder) in found:
        return None
    are = "are" if len(found) > 1 else "is"
    return f"This table is new; {', '.join(found)} {are} of other data, options or versions, and left as it was."


def lock_file(folder: Path) -> Path:
    """Make a table's folder, and return the file in it that one process locks while it works there.

    Raises `UserError` where the folder cannot be written.
    """
    lock = folder / ".lock"
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); give --out another folder.") from None
    return lock
