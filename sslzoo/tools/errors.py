"""The one error that a person's input can cause, and the did-you-mean behind its sentences."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
LONGEST = 100  # letters of a word that may be meant for another


# Ctrl-C, a scheduler's or torchrun's end, Slurm's warning before it, a terminal that is gone
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
SCARCE = (errno.EAGAIN, errno.EMFILE, errno.ENFILE)  # processes, threads and files
NO_MORE = ("start new thread", "Too many open files", "items of ancdata")  # the last is files sent between processes
FULL = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc", "failed to map segment")
READERS_PATIENCE = 600  # seconds in which processes that read have to give something
SILENT_READERS = "No image has come for {} minutes; see that the disk of the data answers, or take --workers 0."
DEAD_READER = "A process that reads images has died, perhaps for lack of memory; start again with fewer --workers."


class UserError(ValueError):
    """Something a person wrote cannot be done; the message is one sentence that says what to do instead."""


class Diverged(UserError):
    """The loss of a run is no longer finite: for one run an error, in a table of runs a result."""


class DeadReader(UserError):
    """A process that reads images has died."""


class SaidElsewhere(UserError):
    """Another process of the run says why."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known word, or the empty string."""
    if len(word) > LONGEST:  # the search takes the square of its letters
        return ""
    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def listing(words: Iterable[object]) -> str:
    """Return ``a, b or c``, for the sentence that lists what is allowed."""
    items = [str(word) for word in words]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


def in_a_line(error: BaseException) -> str:
    """Return the first words of an error of a library, of however many lines; its kind where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".:") if lines else type(error).__name__


def kind_and_words(error: BaseException, most: int = 160) -> str:
    """Return an error's kind and words on one line of so many letters at most, for a part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most].rstrip(".")


def no_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the host or of a device is full."""
    full = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return full or any(word in str(error) for word in FULL) or type(error).__name__ == "OutOfMemoryError"


def exhausted(error: BaseException) -> str | None:
    """Return the sentence for a machine that has no more of what is needed; None for an error of another kind."""
    if no_memory(error):
        return "Memory is full; end what else uses it, or take a smaller --backbone, --image-size or --limit."
    if getattr(error, "errno", None) in SCARCE or any(word in str(error) for word in NO_MORE):
        said = getattr(error, "strerror", None) or str(error).partition(".")[0]
        return f"The system gives no more ({said}); end what else runs, raise 'ulimit', or take --workers 0."
    return None


@contextmanager
def within(place: str) -> Iterator[None]:
    """Let an error of the block begin with the file, or the part of one, that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def from_workers(items: Iterable[T]) -> Iterator[T]:
    """Yield the items of a loader; an error of one of its processes comes as its sentence, without a traceback.

    Raises `DeadReader` where one of them has died.
    """
    try:
        yield from items
    except DeadReader:
        raise
    except UserError as error:
        raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
    except (RuntimeError, OSError, EOFError) as error:
        if (why := exhausted(error)) is not None:
            raise UserError(why) from None
        if "DataLoader timed out" in str(error):
            raise UserError(SILENT_READERS.format(READERS_PATIENCE // 60)) from None
        if "DataLoader worker" not in str(error) and not isinstance(error, ConnectionError | EOFError):
            raise
        raise DeadReader(DEAD_READER) from None
