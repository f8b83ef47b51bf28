"""Where files lie: those that come with the package, and the cache."""

import os
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def shipped(name: str, source: str) -> Path:
    """Return the folder of files ``name`` that come with the package; ``source`` is its place in the repository.

    An installed package has them in ``_files``, an editable install reads the repository's own.
    """
    inside = PACKAGE / "_files" / name
    return inside if inside.is_dir() else PACKAGE.parent / source


def cache() -> Path:
    """Return where downloads go: ``SSLZOO_CACHE``, else ``sslzoo`` in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sslzoo"
    found = Path(os.path.expanduser(os.environ.get("SSLZOO_CACHE") or default))
    if found.parts[:1] == ("~",):  # a user whom the system does not know, as in a container, has no home
        return Path(tempfile.gettempdir()) / f"sslzoo-{os.getuid()}"
    return found
