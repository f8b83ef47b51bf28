"""Ctrl-C: it ends a command at once while modules load, and then as an exception, once, however often it is pressed."""

import os
import signal
import sys
import threading
import time
from types import FrameType

PATIENCE = 1.0  # seconds in which further ones are the same; after that one more ends the process
AGAIN = 0.1  # seconds after which a Ctrl-C that Python has dropped is said again
EXIT_CODE = 130  # before anything was saved, as shells have it

_working: list[bool] = []
_heard: list[float] = []


def install() -> None:
    """Take Ctrl-C over from Python, whose exception the loading of a module may swallow."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _handle)
        sys.unraisablehook = _unraisable


def at_work() -> None:
    """Note that modules are loaded, and that there may be something to put in order before the end."""
    _working.append(True)


def _handle(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    guards = sys.modules.get("sslzoo.training.guards")
    if guards is not None and guards.heard and now - guards.heard[-1] < PATIENCE:
        guards.heard.append(now)  # what stops a run, again
        return
    if not _working or (_heard and now - _heard[0] > PATIENCE):
        os.write(2, b"Interrupted.\n")
        os._exit(EXIT_CODE)
    _heard.append(now)
    if len(_heard) == 1:
        raise KeyboardInterrupt


def _unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """Say Ctrl-C again soon where it came to a finalizer, as that of a loader, out of which Python raises nothing."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    again = threading.Timer(AGAIN, _again)
    again.daemon = True
    again.start()


def _again() -> None:
    _heard.clear()
    os.kill(os.getpid(), signal.SIGINT)


def ended() -> None:
    """Let nothing more interrupt the end of this process."""
    if signal.getsignal(signal.SIGINT) is _handle:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
