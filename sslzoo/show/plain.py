"""What all pages share: consoles, lines, empty tables, and numbers as text."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

NARROW = 110  # columns; a narrower terminal goes without what is least needed


def console(stderr: bool = False) -> Console:
    """A console on the stream as it is now; wide enough for tables where it is no terminal."""
    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=200)


def narrow(out: Console) -> bool:
    """Whether wide tables do not fit a console."""
    return out.width < NARROW


def line(text: str, stderr: bool = False) -> None:
    """A line of plain text."""
    console(stderr).print(escape(text), soft_wrap=True)


def error(sentence: str) -> None:
    """An error: one sentence on standard error."""
    console(stderr=True).print(f"[red]Error:[/red] {escape(' '.join(sentence.split()))}", soft_wrap=True)


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
