"""Standard output with ``--json``: one object, whatever else is printed while a command works."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

import click

_kept: list[tuple[TextIO | None, int | None]] = []  # standard output as it was, and its number


@contextmanager
def reserved() -> Iterator[None]:
    """Let all that is printed in the block, by libraries in C too, go to standard error, but for what `emit` prints."""
    out, number = sys.stdout, None
    if sys.stderr is not None and out is not None:
        with suppress(OSError, ValueError):  # a stream of a test's has no number
            out.flush()
            if out.fileno() == 1 and sys.stderr.fileno() == 2:
                number = os.dup(1)
                os.dup2(2, 1)
    _kept.append((out, number))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.pop()
        if number is not None:
            os.dup2(number, 1)
            os.close(number)


def emit(content: Any) -> None:
    """Print a JSON object on standard output, in a block of `reserved` or not."""
    text = json.dumps(content)
    if not _kept:
        click.echo(text)
        return
    out, number = _kept[-1]
    if out is None:  # it is closed
        return
    if number is not None:
        os.dup2(number, 1)
    try:
        click.echo(text, file=out)
    finally:
        if number is not None:
            os.dup2(2, 1)


def reserve(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Keep standard output for one object until the command ends, where ``--json`` is given."""
    if value:
        ctx.with_resource(reserved())
    return value
