"""What libraries do to a process' files from below: printing to standard output, and the limits on what is written."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Let all that the block prints to standard output, from C too, appear on standard error.

    What Python's own ``sys.stdout`` holds back is written first, so that nothing of it comes out there.
    """
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        yield
        return
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        flush_c()
        os.dup2(kept, 1)
        os.close(kept)


def flush_c() -> None:
    """Write out what C's own streams hold back."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)


def file_limit() -> int | None:
    """Return how many bytes a file may have at most, or None where there is no limit."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft
