"""Locks that readers of images, which are copies of a process, do not inherit while another thread holds them."""

import os
import threading
from contextlib import AbstractContextManager


def fork_safe() -> AbstractContextManager[bool]:
    """Return a lock over which no process is copied: a copy in which nobody lets go of it would wait for ever."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
