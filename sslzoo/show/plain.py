"""What all pages share: consoles, lines, empty tables, and numbers as text."""

import errno
import os
import sys
from contextlib import suppress
from typing import Any

from rich import markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..tools.quoting import printable

LONGEST = 2000  # letters of an error
NARROW = 110  # columns; a narrower terminal goes without what is least needed


def console(stderr: bool = False, kind: type[Console] = Console) -> Console:
    """A console on the stream as it is now; wide enough for tables where it is no terminal."""
    found = kind(stderr=stderr, highlight=False, soft_wrap=False)
    return found if found.is_terminal else kind(stderr=stderr, highlight=False, width=200)


class Lasting(Console):
    """Is a console of what goes on when nobody reads it any more: a pipe's reader, or the terminal, has gone."""

    def on_broken_pipe(self) -> None:
        """Say nothing more, in place of ending the process."""
        self.quiet = True
        with suppress(OSError, ValueError, AttributeError):  # the exit writes what is left
            os.dup2(os.open(os.devnull, os.O_WRONLY), (sys.stderr if self.stderr else sys.stdout).fileno())

    def print(self, *objects: Any, **how: Any) -> None:
        """Print, or do as where a pipe is broken."""
        try:
            super().print(*objects, **how)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.on_broken_pipe()


def escape(text: str) -> str:
    """Return a text that somebody chose so that a console shows it, and nothing else happens."""
    return markup.escape(printable(text))


def narrow(out: Console) -> bool:
    """Whether wide tables do not fit a console."""
    return out.width < NARROW


def line(text: str, stderr: bool = False) -> None:
    """A line of plain text."""
    console(stderr).print(escape(text), soft_wrap=True)


def error(sentence: str) -> None:
    """An error: one sentence on standard error; of a long one the beginning and the end."""
    sentence = " ".join(sentence.split())
    if len(sentence) > LONGEST:
        sentence = f"{sentence[: LONGEST // 2]} ... {sentence[-LONGEST // 2 :]}"
    console(stderr=True, kind=Lasting).print(f"[red]Error:[/red] {escape(sentence)}", soft_wrap=True)


def text(value: object) -> str:
    """A value for a cell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else escape(str(value))


def score(value: float | None) -> str:
    """An accuracy or another number of three digits."""
    return "-" if value is None else f"{value:.3f}"


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house's style."""
    made = Table(*columns, box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    made.show_edge = False
    return made


def duration(seconds: float) -> str:
    """Seconds as 1:05 or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
