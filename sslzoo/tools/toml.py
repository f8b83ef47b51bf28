"""TOML files, read with suspicion and written."""

import errno
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError, within
from .files import read_regular, reason
from .quoting import printable

LARGEST = 100_000  # bytes of a TOML file
DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){12}""")  # a parser takes the square of their number
CONTROL, BYTES = re.compile("[\x00-\x1f\x7f]"), re.compile("[\ud800-\udfff]")  # TOML has no letter for the latter
SAID = 200  # letters of what the parser says

T = TypeVar("T")


def read_toml(path: Path, recovery_hint: str, parse: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what ``parse`` makes of a TOML file. Raises `UserError`, with the file's name."""
    try:
        text = read_regular(path, LARGEST).decode().replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; {recovery_hint}.") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise UserError(f"{path} is too large for a TOML file of sslzoo; give another one.") from None
        said = reason(error) if error.errno == errno.EINVAL else type(error).__name__
        raise UserError(f"{path} cannot be read ({said}); give a TOML file.") from None
    except ValueError as error:  # letters that are no UTF-8, and a path with a NUL
        raise UserError(f"{path} cannot be read ({type(error).__name__}); give a TOML file.") from None
    if DEEP_KEY.search(text):
        raise UserError(f"{path} has a key of too many parts; 'sslzoo methods show NAME' lists the knobs.")
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and tables in tables
        raise UserError(f"{path} is not valid TOML: {str(error)[:SAID].rstrip('.')}.") from None
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
        escaped = CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped)
        return '"' + BYTES.sub(lambda found: "\\" + printable(found[0]), escaped) + '"'
    return repr(value)
