"""What all pages share: consoles, lines, empty tables, and numbers as text."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich import markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..tools.quoting import printable

LONGEST = 2000  # letters of an error
NARROW = 110  # columns; a narrower terminal goes without what is least needed


def console(stderr: bool = False, lasting: bool = False) -> Console:
    """A console on the stream as it is now; wide enough for tables where it is no terminal.

    A lasting one says nothing more, and ends nothing, once its reader has gone.
    """
    stream = sys.stderr if stderr else sys.stdout
    file = cast(TextIO, Lasting(stream)) if lasting and stream is not None else None
    found = Console(file=file, stderr=stderr, highlight=False, emoji=False, soft_wrap=False)
    return found if found.is_terminal else Console(file=file, stderr=stderr, highlight=False, emoji=False, width=200)


class Lasting:
    """Is a stream that goes on when nobody reads it any more: the reader of a pipe, or the terminal, has gone."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text, to nowhere where there is no reader."""
        with self.ended():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Send what is written, to nowhere where there is no reader."""
        with self.ended():
            self.stream.flush()

    @contextmanager
    def ended(self) -> Iterator[None]:
        """Let what is still to be written go nowhere, once that fails for want of a reader."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def escape(text: str) -> str:
    """Return a text that somebody chose so that a console shows it, and nothing else happens."""
    return markup.escape(printable(text))


def narrow(out: Console) -> bool:
    """Return whether wide tables do not fit a console."""
    return out.width < NARROW


def line(text: str, stderr: bool = False) -> None:
    """Print a line of plain text."""
    console(stderr, lasting=stderr).print(escape(text), soft_wrap=True)


def error(sentence: str) -> None:
    """Print an error: one sentence on standard error; of a long one the beginning and the end."""
    sentence = " ".join(sentence.split())
    if len(sentence) > LONGEST:
        sentence = f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
    console(stderr=True, lasting=True).print(f"[red]Error:[/red] {escape(sentence)}", soft_wrap=True)


def text(value: object) -> str:
    """Return a value for a cell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else escape(str(value))


def score(value: float | None) -> str:
    """Return an accuracy or another number of three digits."""
    return "-" if value is None else f"{value:.3f}"


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table in the house's style."""
    made = Table(*columns, box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    made.show_edge = False
    return made


def duration(seconds: float) -> str:
    """Return seconds as 1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
