"""Names that others chose, quoted for where they are shown: terminals, pictures, CSV and Markdown."""

import re

HIDDEN = re.compile(  # control characters, marks of direction, and bytes that are no letter
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one


def printable(text: str) -> str:
    r"""Return a text whose control characters, marks of direction and bytes of no letter are spelled: ``\x1b``."""
    return HIDDEN.sub(lambda found: _spelled(found[0]), text)


def _spelled(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def csv_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: a text that begins like one has a quote before it."""
    if not isinstance(value, str) or not value.startswith(FORMULA) or value == "-":
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def markdown(text: str) -> str:
    """Return a text as Markdown that shows it, in one line: no HTML, no links, no further column."""
    return re.sub(r"[\[\]`]", r"\\\g<0>", " ".join(printable(text).split())).replace("<", "&lt;").replace("|", "/")


def markdown_code(text: str) -> str:
    """Return a text as Markdown's code, however many backticks it has."""
    text = " ".join(printable(text).split())
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
