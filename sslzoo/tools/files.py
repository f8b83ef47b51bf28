"""Files that are written: where one may be, written whole, and by one process at a time."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

MAKE_ROOM = "make room or give --out another folder"


def check_out(path: Path, suffix: str, option: str = "--out") -> None:
    """Raise `UserError` for a place where no file of this suffix can be written."""
    if path.suffix != suffix:
        raise UserError(f"{option} {path} has to end in {suffix}.")
    if not os.path.isdir(path.parent):
        raise UserError(f"There is no folder {path.parent}; make it first or give {option} another place.")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; give {option} another place.")
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UserError(f"{path} cannot be written ({reason(error)}); give {option} another place.") from None


def reason(error: Exception) -> str:
    """Return what an error says, without the numbers and names beside it."""
    return getattr(error, "strerror", None) or str(error)


def temporary(path: Path) -> Path:
    """Return a hidden name beside a file for what becomes it; nobody else has it, and it is short."""
    return path.with_name(f".{os.getpid()}.{threading.get_ident()}.tmp")


def tidy(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that is ours alone."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a file, for the folder around it, against other processes; what ends, however, lets go of it.

    Raises `UserError` where another one holds it, or waits for that one. A file that is not there, or where the system
    has no locks, is not held.
    """
    try:
        import fcntl  # not on Windows

        file = open(path, "r+b")  # noqa: SIM115
    except (ImportError, FileNotFoundError, NotADirectoryError, IsADirectoryError):
        yield
        return
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)}); {MAKE_ROOM}.") from None
    os.register_at_fork(after_in_child=file.close)  # or one that reads images would hold it, once we are gone
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UserError(f"{path.parent} is in use by another process; wait for its end, or stop it.") from None
        except OSError:  # a disk without locks
            pass
        yield


def write(path: Path, content: bytes | str | Callable[[BinaryIO], None], recovery_hint: str = MAKE_ROOM) -> None:
    """Write a file whole, or let it be written: to a temporary name, flushed to the disk, then renamed.

    Raises `UserError` that ends in ``recovery_hint``.
    """
    unfinished = temporary(path)
    try:
        with open(unfinished, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        if os.path.exists(unfinished):
            os.unlink(unfinished)
        raise UserError(f"{path} cannot be written ({error.strerror}); {recovery_hint}.") from None
