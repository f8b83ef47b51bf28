"""Progress of long work: who does it tells how far it is, and who shows it listens."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds in which work says nothing
OFTEN = 0.1  # seconds between two words

Listener = Callable[[str, int, int | None], None]

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a listener hear of work, in place of the one before.

    It is given the name of the work, how much of it is done and how much there is, or None where nobody knows; at the
    end of work of which it has heard the two are the same.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Work:
    """Counts what is done of some work, and tells whoever listens once it takes longer than two seconds."""

    def __init__(self, name: str, total: int | None = None):
        self.name, self.total, self.done = name, total, 0
        self.began, self.told = time.monotonic(), 0.0

    def add(self, number: int) -> None:
        """Count so much more as done."""
        self.done += number
        now = time.monotonic()
        if now - self.began >= PATIENCE and now - self.told >= OFTEN:
            self.told = now
            self._tell(self.total)

    def end(self) -> None:
        """Say that all of it is done, or given up, where anybody has heard of it."""
        if self.told:
            self._tell(self.done)

    def _tell(self, total: int | None) -> None:
        for listener in _listeners[-1:]:
            listener(self.name, self.done, total)

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
