"""The command line: click only; every command imports what it needs when it runs."""

import atexit
import errno
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from .. import show
from ..processes.launched import in_process_group, rank, world_size
from ..recipes import plugins
from ..tools.errors import SaidElsewhere, UserError, did_you_mean, exhausted, listing
from ..tools.progress import listening
from ..tools.version import __version__
from .ablate import ablate, study
from .bench import embed, knn, protocols, runs, search
from .cluster import cluster
from .data import data
from .export import export
from .expression import part_signs
from .interrupt import EXIT_CODE, ended, install
from .methods import methods
from .train import train

SHARED = ("train", "embed")  # commands that the processes of a launch do together
OUTPUT_ERRORS = (errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EBADF, errno.EDQUOT)  # of a stream

__all__ = ["main", "part_signs"]


def sentence(error: click.ClickException) -> str:
    """Return what click has to say as one of our sentences."""
    if isinstance(error, click.NoSuchOption):
        hint = did_you_mean(error.option_name, error.possibilities or [])
        return f"No such option {error.option_name!r}{hint}; --help lists them."
    choices = getattr(error.param, "type", None) if isinstance(error, click.MissingParameter) else None
    if isinstance(choices, click.Choice):
        return f"Missing argument; choose from {listing(choices.choices)}."
    message = re.sub(r"\. Did you mean (.*\?)$", r" (did you mean \1)", error.format_message())
    return message.rstrip(".") + "."


def leave(code: str | int) -> NoReturn:
    """End a process of a group that others may still wait in, whose threads would end it otherwise than with a code."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


class Zoo(click.Group):
    """Is a group whose every error is one sentence on standard error and exit code 2."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named. Raises `UserError` for one that processes do not share."""
        name, command, rest = super().resolve_command(ctx, args)
        if world_size() > 1 and name not in SHARED:
            raise UserError(f"What '{name}' does is made by one process; start it without torchrun.")
        return name, command, rest

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run a command and exit."""
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **extra)
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal need not know every letter
        if args is None:  # this process is the command
            install()
        try:
            self.exit(args, prog_name, **extra)
        except SystemExit as end:
            if end.code and in_process_group():
                leave(end.code)
            raise
        finally:
            ended()

    def exit(self, args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> None:
        """Run a command and exit, with a sentence where something is amiss."""
        try:
            code = self.code(args, prog_name, **extra)
            if sys.stdout is not None:  # None where it is closed
                sys.stdout.flush()
        except OSError as error:
            if error.filename is not None:  # a file's, and no stream's
                show.error(f"{error.filename} cannot be used ({error.strerror}); see that it is there and yours.")
                sys.exit(2)
            if error.errno not in OUTPUT_ERRORS:
                show.error(exhausted(error) or f"The system refuses ({error.strerror or error}); try again.")
                sys.exit(2)
            with suppress(OSError, ValueError):  # the exit writes what is left
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
            if not isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
                show.error(f"The output cannot be written ({error.strerror}); give it another place.")
        sys.exit(code)

    def code(self, args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> int:
        """Run a command and return the exit code that it comes to."""
        try:
            with show.Waiting() as waiting, listening(waiting.at if rank() == 0 else lambda *_: None):
                code = super().main(args, prog_name or "sslzoo", standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            code = 0
        except click.ClickException as error:
            if rank() == 0:
                show.error(sentence(error))
            code = 2
        except UserError as error:
            if rank() == 0:
                show.error(str(error))
            elif in_process_group() and not isinstance(error, SaidElsewhere):  # before, all have the same errors
                show.error(f"process {rank()}: {error}")
            code = 2
        except (KeyboardInterrupt, click.Abort):
            show.line("Interrupted.", stderr=True)
            code = EXIT_CODE
        except Exception as error:
            if (why := plugins.failure(error) or exhausted(error)) is None:
                raise
            show.error(why)
            code = 2
        return code if isinstance(code, int) else 0


@click.group(cls=Zoo, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sslzoo")
def main() -> None:
    """Self-supervised image learning on one Siamese core: every method is a choice of switches.

    \b
    sslzoo train simsiam                        train on the embedded digits
    sslzoo train byol - momentum --data DIR     remove a component, on your own images
    sslzoo data check DIR                       what a folder of images holds, before a run
    sslzoo ablate simsiam --flip predictor      every combination of some switches, in one table
    sslzoo study stop_gradient                  a table of a paper
    sslzoo knn runs/RUN raw random colours      benchmark embeddings
    sslzoo export runs/RUN --to timm --out DIR  take the encoder along
    """
    try:
        os.getcwd()
    except FileNotFoundError:  # where torch's libraries end the process
        raise UserError("The folder that you are in is gone; change to one that is there, and start again.") from None


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script; for bash: source <(sslzoo completion bash)."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "sslzoo", "_SSLZOO_COMPLETE").source())


for command in (train, ablate, study, knn, embed, search, cluster, export, data, protocols, runs, methods):
    main.add_command(command)
