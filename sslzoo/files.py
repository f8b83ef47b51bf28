"""Files that are written: where one may be, and written whole."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

ROOM = "make room or give --out another folder"


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
        raise UserError(f"{path} cannot be written ({said(error)}); give {option} another place.") from None


def said(error: Exception) -> str:
    """What an error says, without the numbers and names beside it."""
    return getattr(error, "strerror", None) or str(error)


def write(path: Path, content: bytes | str | Callable[[BinaryIO], None], mend: str = ROOM) -> None:
    """Write a file whole, or let it be written: to a temporary name, flushed to the disk, then renamed.

    Raises `UserError` that ends in ``mend``.
    """
    temporary = path.with_name(f".{os.getpid()}.{threading.get_ident()}.tmp")  # nobody else's, and of a short name
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise UserError(f"{path} cannot be written ({error.strerror}); {mend}.") from None
