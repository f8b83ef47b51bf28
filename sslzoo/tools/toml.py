"""TOML files, read with suspicion and written."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError, within

LARGEST = 1_000_000  # bytes of a TOML file

T = TypeVar("T")


def read_toml(path: Path, recovery_hint: str, parse: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what ``parse`` makes of a TOML file. Raises `UserError`, with the file's name."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is too large for a TOML file of sslzoo; give another one.")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; {recovery_hint}.") from None
    except UserError:
        raise
    except (OSError, ValueError) as error:  # a ValueError for letters that are no UTF-8, and for a path with a NUL
        raise UserError(f"{path} cannot be read ({type(error).__name__}); give a TOML file.") from None
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and tables in tables
        raise UserError(f"{path} is not valid TOML: {str(error).rstrip('.')}.") from None
    with within(str(path)):
        return parse(content)


def to_toml(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Return TOML text of texts, numbers and booleans in tables."""
    lines = [f"{key} = {_toml_value(value)}" for key, value in tables.items() if not isinstance(value, Mapping)]
    text = "".join(f"{line}\n" for line in lines)
    for key, value in tables.items():
        if isinstance(value, Mapping):
            body = to_toml(value, f"{prefix}{key}.")
            has_values = any(not isinstance(v, Mapping) for v in value.values())
            text += f"\n[{prefix}{key}]\n{body}" if has_values else body
    return text.lstrip("\n") if not prefix else text


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return repr(value)
