"""JSON for people and for git: what fits in a line stands in one, so that a committed figure is a line in a diff."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTH = 118


def compact(value: Any, depth: int = 0) -> str:
    """The text of a value that is nested so deep; a table or a list that does not fit has a line for each entry."""
    line = json.dumps(value)
    if not isinstance(value, dict | list) or depth + len(line) <= WIDTH:
        return line
    inner = "\n" + " " * (depth + 1)
    if isinstance(value, dict):
        entries = [f"{json.dumps(key)}: {compact(entry, depth + 1)}" for key, entry in value.items()]
        return f"{{{inner}{f',{inner}'.join(entries)}\n{' ' * depth}}}"
    return f"[{inner}{f',{inner}'.join(compact(entry, depth + 1) for entry in value)}\n{' ' * depth}]"


def digits(value: Any, n: int = 5) -> Any:
    """Every float of a value with so many digits; the pages show at most three."""
    if isinstance(value, float):
        return float(f"{value:.{n}g}")
    if isinstance(value, dict):
        return {key: digits(entry, n) for key, entry in value.items()}
    return [digits(entry, n) for entry in value] if isinstance(value, list) else value


def read_rows(path: Path) -> list[dict]:
    """The rows of a file, to go on with; none where it is not there yet."""
    return json.loads(path.read_text()) if path.is_file() else []


def write_rows(path: Path, rows: list[dict], page: Callable[[list[dict]], str], shown: Path | None = None) -> None:
    """Write rows and the page that is made of them, beside them unless it is shown elsewhere."""
    path.write_text(compact(rows) + "\n")
    (shown or path.with_suffix(".md")).write_text(page(rows))
