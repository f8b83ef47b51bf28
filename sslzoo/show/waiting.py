"""Work that makes somebody wait, on a terminal: how much of it is done, and the time left."""

from contextlib import ExitStack

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..tools.progress import listening
from .plain import console, escape


class Bar:
    """Is a line on a terminal for each source that is embedded, or other work, and goes once that is done."""

    def __init__(self) -> None:
        out = console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=out, transient=True, disable=not out.is_terminal)
        self.tasks: dict[str, TaskID] = {}
        self.heard = ExitStack()

    def __enter__(self) -> "Bar":
        self.progress.start()
        self.heard.enter_context(listening(self.at))
        return self

    def __exit__(self, *_: object) -> None:
        self.heard.close()
        self.progress.stop()

    def at(self, source: str, done: int, total: int | None) -> None:
        """Show that so much of a work is done, as of a source's images that are embedded; a total may not be known."""
        if source not in self.tasks:
            self.tasks[source] = self.progress.add_task(escape(source), total=total)
        self.progress.update(self.tasks[source], completed=done, total=total, visible=done != total)


class Waiting:
    """Shows work of which it hears as a `Bar` that is there as long as the work, where nothing else is live."""

    def __init__(self) -> None:
        self.bar: Bar | None = None

    def at(self, work: str, done: int, total: int | None) -> None:
        """Show that so much of a work is done, of a total if it is known."""
        if self.bar is None:
            self.bar = Bar()
            self.bar.progress.start()
        self.bar.at(work, done, total)
        if done == total:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.progress.stop()
            self.bar = None

    def __enter__(self) -> "Waiting":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
