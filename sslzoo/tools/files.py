"""Files: which may be read, where one may be written, written whole, and by one process at a time."""

import errno
import os
import re
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

SIGNATURES = (b"sslzoo", b"<title>The map of methods")  # of which a picture of ours has one in its first bytes
UNFINISHED = re.compile(r"\.(\d+)\.\d+\.tmp")  # of `temporary`
READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
MOST_AT_ONCE, MORE = 2**30, 2**16  # bytes that are asked for at first, of which no system gives 2**31, and then
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


def read_regular(path: Path, most: int) -> bytes:
    """Return what a file holds. Raises `OSError` as `read_with_state` does."""
    return read_with_state(path, most)[0]


def read_with_state(path: Path | str, most: int) -> tuple[bytes, os.stat_result]:
    """Return what a file holds, and the state in which it was read.

    Raises `OSError` for what is no regular file, and for one of more than ``most`` bytes. A pipe would make us wait for
    ever, and a device would never end.
    """
    number = _without_waiting(path, READ)  # `open` takes twice the time, which counts where there are a million files
    try:
        state = os.fstat(number)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if state.st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", str(path))
        parts, size = [], min(state.st_size + 1, MOST_AT_ONCE)
        while part := os.read(number, size):
            parts.append(part)
            size = MORE  # of a file that grows, or whose size nobody knows, as in /proc
        return b"".join(parts), state
    finally:
        os.close(number)


def _without_waiting(path: Path | str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_replaced(path: Path, option: str, read: Sequence[str | Path | None], force: bool = False) -> None:
    """Raise `UserError` for an output that is one of the inputs ``read``, or a file that is not ours to replace.

    ``force`` lets it replace any file but an input.
    """
    if not os.path.lexists(path) or os.path.isdir(path):
        return
    for one in read:
        if one is not None and (_same(os.path.expanduser(one), path) or _has_picture(one, path)):
            raise UserError(f"{option} {path} is what is read; give {option} another place.")
    if not force and not is_ours(path):
        raise UserError(f"{path} is there already; give {option} another place, or --force to replace it.")


def _same(one: str | Path, path: Path) -> bool:
    try:
        return os.path.samefile(one, path)
    except (OSError, ValueError):  # one of them is no file
        return False


def _has_picture(folder: str | Path, path: Path) -> bool:
    """Return whether a path is a picture below a folder, and none of ours."""
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(os.path.expanduser(folder)))
    return inside and path.suffix == ".png" and not is_ours(path)


def is_ours(path: Path) -> bool:
    """Return whether a file is features that ``sslzoo embed`` writes, or a picture of ours."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return False
            if path.suffix == ".npz":
                return "train_features.npy" in zipfile.ZipFile(file).namelist()
            start = file.read(1024)
            return any(one in start for one in SIGNATURES)
    except PermissionError:
        return True  # nor ours to write, which says it
    except (OSError, ValueError, zipfile.BadZipFile):
        return os.path.islink(path) and not os.path.exists(path)  # a link to what is still to be written


def reason(error: Exception) -> str:
    """Return what an error says, without the numbers and names beside it."""
    return getattr(error, "strerror", None) or str(error)


def temporary(path: Path) -> Path:
    """Return a hidden name beside a file for what becomes it; nobody else has it, and it is short."""
    return path.with_name(f".{os.getpid()}.{threading.get_ident()}.tmp")


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that were killed have left unfinished in a person's folder."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if (found := UNFINISHED.fullmatch(entry.name)) and not _alive(int(found[1])):
                with suppress(OSError), open(entry.path, "r+b") as file:
                    if _free(file):
                        os.unlink(entry.path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's
    return True


def _free(file: BinaryIO) -> bool:
    """Return whether no process holds a file that is being written, on another machine either; hold it."""
    try:
        import fcntl  # not on Windows

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        return not isinstance(error, BlockingIOError)
    return True


def _release(file: BinaryIO) -> None:
    """Let go of a file that is held, also for a process that was forked meanwhile and has it open too."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


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
        try:
            yield
        finally:
            _release(file)


def write(path: Path, content: bytes | str | Callable[[BinaryIO], None], recovery_hint: str = MAKE_ROOM) -> None:
    """Write a file whole, or let it be written: to a temporary name, flushed to the disk, then renamed.

    A link is followed, and a file that is there keeps its permissions. Raises `UserError` that ends in
    ``recovery_hint``.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else path
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a folder, which a renaming would replace
        raise UserError(f"{path} is no regular file; move it away, or give another place.")
    unfinished = temporary(path)
    sweep(path.parent)
    try:
        with open(unfinished, "wb") as file:
            _free(file)
            with suppress(FileNotFoundError):
                os.chmod(unfinished, stat.S_IMODE(os.stat(path).st_mode))
            if callable(content):
                content(file)
            else:  # letters that are no UTF-8 are bytes of a name
                file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            _release(file)
        os.replace(unfinished, path)
        _flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            os.unlink(unfinished)
        if not os.path.isdir(path.parent):
            raise UserError(f"{path.parent} is gone, and what goes there with it; start again.") from None
        raise UserError(f"{path} cannot be written ({reason(error)}); {recovery_hint}.") from None
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def _flush_folder(folder: Path) -> None:
    """Let a renaming in a folder outlast a loss of power, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
