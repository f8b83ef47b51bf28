"""What the images of a run held when they were read: kept in its directory, and compared when they are read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.contents import identity
from ..data.contents.identity import Identity
from ..data.splits import Dataset
from ..processes import agree
from ..tools.errors import UserError
from ..tools.records import Record, write_json

FILE = "images.json"  # in a run's directory


@dataclass(frozen=True)
class Contents(Record):
    """Holds the SHA-1 of each file that was read, by its path below the data's folder."""

    images: Mapping[str, str]


class Keeper:
    """Writes what a run's images of files hold, as they are first read."""

    def __init__(self, data: Dataset):
        self.data, self.written = data, -1

    def keep(self, run: Path) -> None:
        """Write what is new; all processes have to come here.

        Raises `UserError` where they have read different contents of one image.
        """
        if not self.data.train.images.paths:
            return
        count = identity.count_read(self.data)
        if not agree.all_reduce_max(count != self.written):
            return
        self.written = count
        known = agree.gathered(identity.contents(self.data))
        agree.on_first(lambda: write_json(run / FILE, Contents(_joined([read(run), *known])).to_json()))
        identity.save(self.data)


def _joined(parts: list[Mapping[str, str]]) -> dict[str, str]:
    """Return what several have read. Raises `UserError` where they differ."""
    found: dict[str, str] = {}
    for part in parts:
        for name, sha1 in part.items():
            if found.setdefault(name, sha1) != sha1:
                raise UserError(
                    f"The content of {name} has changed while the run went on, or is another on another machine; give "
                    "all of them the same data, and start a new run."
                )
    return found


def read(run: Path) -> Mapping[str, str]:
    """Return what a run has kept; nothing where it has kept nothing. Raises `UserError` where it is broken."""
    if not (run / FILE).is_file():
        return {}
    return Contents.read(run / FILE, f"{run / FILE} is broken; move it away, and contents are not compared.").images


def difference(run: Path, trained_on: Identity | None, data: Dataset) -> str | None:
    """Say in what a data set differs from the one that a run was trained on; None where it does not.

    Files are read where it is not known whether they have changed.
    """
    if trained_on is None:
        return None
    if (found := trained_on.difference(Identity.of(data))) is not None:
        return found
    changes = identity.changed(data, read(run))
    return identity.named(changes) if changes else None
