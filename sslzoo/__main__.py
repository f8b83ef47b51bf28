"""``python -m sslzoo``, and the command ``sslzoo``."""

import _signal  # type: ignore[import-not-found]  # `signal` itself takes time to load


def run() -> None:
    """Run the command line; Ctrl-C ends it while it loads, without a traceback."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from .cli import main

    main(prog_name="sslzoo")


if __name__ == "__main__":
    run()
