"""Which commit a figure was measured at."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The short hash of the checkout that this script lies in."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
