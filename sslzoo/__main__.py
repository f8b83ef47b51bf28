"""``python -m sslzoo``, and the command ``sslzoo``."""

import signal
import threading


def run() -> None:
    """Run the command line; Ctrl-C ends it while it loads, without a traceback."""
    main_thread = threading.current_thread() is threading.main_thread()
    if main_thread and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main

    main(prog_name="sslzoo")


if __name__ == "__main__":
    run()
